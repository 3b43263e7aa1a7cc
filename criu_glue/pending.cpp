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

void Pending::remove(std::uint64_t start, std::uint64_t end) {
  auto at = ranges_.upper_bound(start);
  if (at != ranges_.begin()) --at;
  while (at != ranges_.end() && at->first < end) {
    if (at->second.end <= start) {
      ++at;
      continue;
    }
    const std::uint64_t from = std::max(start, at->first);
    const std::uint64_t to = std::min(end, at->second.end);
    (void)cut(at, from, to);
    at = ranges_.lower_bound(to);
  }
}

void Pending::move(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
  std::vector<Piece> moved;
  auto at = ranges_.upper_bound(from);
  if (at != ranges_.begin()) --at;
  while (at != ranges_.end() && at->first < from + bytes) {
    if (at->second.end <= from) {
      ++at;
      continue;
    }
    const std::uint64_t end = std::min(from + bytes, at->second.end);
    moved.push_back(cut(at, std::max(from, at->first), end));
    at = ranges_.lower_bound(end);
  }
  remove(to, to + bytes);
  for (Piece& piece : moved) {
    piece.address = piece.address - from + to;
    add(piece);
  }
}

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
