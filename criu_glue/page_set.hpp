// page_set.hpp - a set of pages of one process: a bitmap for each 2 MiB of address space in use.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <unordered_map>

#include "criu_glue/memory.hpp"

namespace lifeboat {

class PageSet {
 public:
  void add(const PageRun& run) {
    each_chunk(run, [&](std::uint64_t chunk, unsigned from, unsigned to) { fill(chunks_[chunk], from, to, true); });
  }
  void remove(const PageRun& run) {
    each_chunk(run, [&](std::uint64_t chunk, unsigned from, unsigned to) {
      const auto at = chunks_.find(chunk);
      if (at != chunks_.end()) fill(at->second, from, to, false);
    });
  }
  void clear() { chunks_.clear(); }

  // Cuts `run` into runs that are wholly in the set or wholly out of it, in order, and calls
  // `use(run, in_set)` for each.
  template <class Use>
  void split(const PageRun& run, Use use) const {
    PageRun part{run.address, 0};
    bool in_set = false;
    const auto flush = [&] {
      if (part.pages > 0) use(part, in_set);
      part.address += part.pages * kPageBytes;
      part.pages = 0;
    };
    each_chunk(run, [&](std::uint64_t chunk, unsigned from, unsigned to) {
      const auto found = chunks_.find(chunk);
      const Bits& bits = found == chunks_.end() ? kNone : found->second;
      while (from < to) {
        const bool here = test(bits, from);
        if (here != in_set) flush();
        in_set = here;
        const unsigned end = end_of_equal(bits, from, to);
        part.pages += end - from;
        from = end;
      }
    });
    flush();
  }

 private:
  static constexpr unsigned kWordBits = 64;
  using Bits = std::array<std::uint64_t, kChunkPages / kWordBits>;
  static constexpr Bits kNone{};

  // `use(chunk, from, to)`: pages of each chunk that `run` reaches into.
  template <class Use>
  static void each_chunk(const PageRun& run, Use use) {
    std::uint64_t page = run.address / kPageBytes;
    const std::uint64_t end = page + run.pages;
    while (page < end) {
      const std::uint64_t chunk = page / kChunkPages;
      const std::uint64_t stop = std::min(end, (chunk + 1) * kChunkPages);
      use(chunk, static_cast<unsigned>(page % kChunkPages), static_cast<unsigned>(stop - chunk * kChunkPages));
      page = stop;
    }
  }

  static bool test(const Bits& bits, unsigned page) { return (bits[page / kWordBits] >> page % kWordBits & 1) != 0; }

  static void fill(Bits& bits, unsigned from, unsigned to, bool value) {
    while (from < to) {
      const unsigned stop = std::min(to, (from / kWordBits + 1) * kWordBits);
      const std::uint64_t mask = ~std::uint64_t{0} >> (kWordBits - (stop - from)) << from % kWordBits;
      std::uint64_t& word = bits[from / kWordBits];
      word = value ? word | mask : word & ~mask;
      from = stop;
    }
  }

  // The first page after `from` that differs from it, at most `to`.
  static unsigned end_of_equal(const Bits& bits, unsigned from, unsigned to) {
    const bool value = test(bits, from);
    while (from < to) {
      const std::uint64_t word = bits[from / kWordBits];
      const auto equal = static_cast<unsigned>(std::countr_one((value ? word : ~word) >> from % kWordBits));
      const unsigned in_word = kWordBits - from % kWordBits;
      from += std::min(equal, in_word);
      if (equal < in_word) break;
    }
    return std::min(from, to);
  }

  std::unordered_map<std::uint64_t, Bits> chunks_;
};

}  // namespace lifeboat
