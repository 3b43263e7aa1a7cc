#include "criu_glue/missing_pages.hpp"

#include <utility>

namespace lifeboat {

namespace {

// A place, of no source.
Pending::Piece place_of(std::uint64_t address, std::uint64_t bytes) {
  return {address, bytes, reinterpret_cast<unsigned char*>(address)};
}

}  // namespace

MissingPages::MissingPages(Pending here, Pending there, bool has_moved) : moved(has_moved) {
  for (const Pending* pages : {&here, &there}) {
    for (const Pending::Piece& piece : pages->pieces()) mapped_.add(place_of(piece.address, piece.bytes));
  }
  static_cast<Pending&>(pending) = std::move(here);
  static_cast<Pending&>(absent) = std::move(there);
}

std::vector<MissingPages::Part> MissingPages::vacate(std::uint64_t start, std::uint64_t end) {
  std::vector<Part> parts;
  const auto is_there = [&](std::uint64_t from, std::uint64_t to) {
    if (from == to) return;
    parts.push_back({from, to, false});
    mapped_.remove(from, to);
  };
  std::uint64_t at = start;
  for (const Pending::Piece& early : not_told_free_.take_within(start, end)) {
    is_there(at, early.address);
    at = early.address + early.bytes;
    parts.push_back({early.address, at, true});
  }
  is_there(at, end);
  return parts;
}

std::vector<Pending::Piece> MissingPages::take(Pages& pages, const std::vector<Part>& parts) {
  std::vector<Pending::Piece> taken;
  for (const Part& part : parts) {
    Pending& was_in = part.displaced ? pages.displaced : pages;
    const auto found = was_in.take_within(part.start, part.end);
    taken.insert(taken.end(), found.begin(), found.end());
  }
  return taken;
}

void MissingPages::move(std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
  const std::vector<Part> parts = vacate(from, from + bytes);
  for (Pages* pages : {&pending, &absent}) {
    const auto found = take(*pages, parts);
    pages->displaced.remove(to, to + bytes);
    for (const Pending::Piece& piece : pages->take_within(to, to + bytes)) pages->displaced.add(piece);
    for (Pending::Piece piece : found) {
      piece.address = piece.address - from + to;
      pages->add(piece);
    }
  }
  not_told_free_.remove(to, to + bytes);
  if (!mapped_.take_within(to, to + bytes).empty()) not_told_free_.add(place_of(to, bytes));
  mapped_.add(place_of(to, bytes));
  left_[from] = from + bytes;
  moved = true;
}

bool MissingPages::unmap(std::uint64_t start, std::uint64_t end) {
  const auto left = left_.find(start);
  if (left != left_.end() && end <= left->second) {
    left_.erase(left);
    return false;
  }
  const std::vector<Part> parts = vacate(start, end);
  for (Pages* pages : {&pending, &absent}) (void)take(*pages, parts);
  return true;
}

void MissingPages::give_up(std::uint64_t start, std::uint64_t end) {
  pending.remove(start, end);
  absent.remove(start, end);
}

void MissingPages::all_is_told() {
  left_.clear();
  not_told_free_ = {};
  pending.displaced = {};
  absent.displaced = {};
}

std::uint64_t MissingPages::bytes() const {
  return pending.bytes() + pending.displaced.bytes() + absent.bytes() + absent.displaced.bytes();
}

}  // namespace lifeboat
