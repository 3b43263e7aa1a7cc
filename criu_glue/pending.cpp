#include "criu_glue/pending.hpp"

#include <algorithm>
#include <vector>

namespace lifeboat {

void Pending::add(const Piece& piece) {
  if (piece.bytes == 0) return;
  Range range;
  range.end = piece.address + piece.bytes;
  range.source = piece.source;
  ranges_.emplace(piece.address, range);
  bytes_ += piece.bytes;
}

Pending::Piece Pending::cut(Ranges::iterator at, std::uint64_t start, std::uint64_t end) {
  const std::uint64_t first = at->first;
  const Range range = at->second;
  ranges_.erase(at);
  bytes_ -= range.end - first;
  add({first, start - first, range.source});
  add({end, range.end - end, range.source + (end - first)});
  return {start, end - start, range.source + (start - first)};
}

std::vector<Pending::Piece> Pending::take_within(std::uint64_t start, std::uint64_t end) {
  std::vector<Piece> taken;
  auto at = ranges_.upper_bound(start);
  if (at != ranges_.begin()) --at;
  while (at != ranges_.end() && at->first < end) {
    if (at->second.end <= start) {
      ++at;
      continue;
    }
    const std::uint64_t to = std::min(end, at->second.end);
    taken.push_back(cut(at, std::max(start, at->first), to));
    at = ranges_.lower_bound(to);
  }
  return taken;
}

std::vector<Pending::Piece> Pending::take_from_source(const unsigned char* source,
                                                      std::uint64_t bytes) {
  std::vector<Piece> taken;
  for (const Piece& piece : pieces()) {
    const auto skip = source > piece.source ? static_cast<std::uint64_t>(source - piece.source) : 0;
    const unsigned char* const stop = std::min<const unsigned char*>(source + bytes,
                                                                     piece.source + piece.bytes);
    const auto end = stop > piece.source ? static_cast<std::uint64_t>(stop - piece.source) : 0;
    if (skip >= end) continue;
    const auto found = take_within(piece.address + skip, piece.address + end);
    taken.insert(taken.end(), found.begin(), found.end());
  }
  return taken;
}

bool Pending::contains(std::uint64_t address) const {
  auto at = ranges_.upper_bound(address);
  return at != ranges_.begin() && (--at)->second.end > address;
}

std::vector<Pending::Piece> Pending::pieces() const {
  std::vector<Piece> all;
  all.reserve(ranges_.size());
  for (const auto& [address, range] : ranges_) {
    all.push_back({address, range.end - address, range.source});
  }
  return all;
}

void Pending::remove(std::uint64_t start, std::uint64_t end) { (void)take_within(start, end); }

std::optional<Pending::Piece> Pending::take_around(std::uint64_t address, std::uint64_t bytes_max) {
  auto at = ranges_.upper_bound(address);
  if (at == ranges_.begin()) return std::nullopt;
  --at;
  if (at->second.end <= address) return std::nullopt;
  const std::uint64_t start = std::max(at->first, address / bytes_max * bytes_max);
  const std::uint64_t end = std::min(at->second.end, (address / bytes_max + 1) * bytes_max);
  return cut(at, start, end);
}

std::optional<Pending::Piece> Pending::take_next(std::uint64_t hint, std::uint64_t bytes_max) {
  if (ranges_.empty()) return std::nullopt;
  if (auto piece = take_around(hint, bytes_max)) return piece;
  auto at = ranges_.lower_bound(hint);
  if (at == ranges_.end()) at = ranges_.begin();
  return cut(at, at->first, std::min(at->second.end, (at->first / bytes_max + 1) * bytes_max));
}

}  // namespace lifeboat
