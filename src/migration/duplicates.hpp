// duplicates.hpp - which pages the target has already on this connection, by their content: a page
// that is there need not be sent again, wherever in the container it was. Pure.
//
// The same goes for a page that was written with what it held before: it is its own duplicate.
//
// An entry is right as long as nothing else was sent for its place; so every page that is sent must
// be told, in the order in which it is sent. The table is of fixed size, newer entries displace
// older ones. Where there are hardly any duplicates it turns itself off, and looks again later.
//
// Two different pages with one XXH3-128 would be confused: by chance never; a program that makes
// them on purpose damages nothing but its own memory.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "migration/page_record.hpp"

namespace lifeboat {

class DuplicateIndex {
 public:
  using PageHash = page_stream::PageHash;
  using PagePlace = page_stream::PagePlace;

  // Each slot takes 44 bytes; their number is rounded up to a power of two.
  static constexpr std::size_t kSlots = 1U << 17;  // 5.5 MiB, for 512 MiB of pages; from the first page on
  explicit DuplicateIndex(std::size_t slots = kSlots);

  // The page at `place`, with this content, is next. Where the target has the same; nothing: it has
  // to be sent as it is, and is remembered.
  std::optional<PagePlace> next(const PageHash& hash, const PagePlace& place);
  // The page at `place` is next, and is all zeros.
  void zero(const PagePlace& place);

  // Forgets everything and finds nothing from now on.
  void end();

  [[nodiscard]] bool looking() const { return !slots_.empty(); }

  static constexpr std::uint64_t kWindowPages = 4096;  // looked at before it may turn itself off
  static constexpr std::uint64_t kHitsLeast = kWindowPages / 100;
  static constexpr std::uint64_t kPauseWindowsMax = 64;

 private:
  static constexpr std::uint32_t kNone = 0xffffffff;
  struct Slot {
    PageHash hash;
    PagePlace place;
    std::uint32_t next = kNone;  // of those whose places share a bucket
    bool used = false;
  };
  static_assert(sizeof(Slot) <= 40);

  [[nodiscard]] std::uint32_t slot_of(const PageHash& hash) const;
  [[nodiscard]] std::uint32_t bucket_of(const PagePlace& place) const;
  void put(std::uint32_t slot, const PageHash& hash, const PagePlace& place);
  void remove(std::uint32_t slot);
  void forget(const PagePlace& place);
  void start();
  void pause();

  std::uint32_t size_;
  std::vector<Slot> slots_;            // by content; empty while it does not look, and at first
  std::vector<std::uint32_t> buckets_;  // by place: first slot
  std::uint64_t seen_ = 0;             // in this window or pause
  std::uint64_t hits_ = 0;
  std::uint64_t pause_windows_ = 0;    // length of the pause going on, or of the last one
  bool ended_ = false;
};

}  // namespace lifeboat
