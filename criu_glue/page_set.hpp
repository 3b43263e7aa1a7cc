// page_set.hpp - a set of pages of one process: a bitmap for each 2 MiB of address space in use.
#pragma once

#include <algorithm>
#include <bitset>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "criu_glue/memory.hpp"

namespace lifeboat {

class PageSet {
 public:
  void add(std::uint64_t address, std::uint64_t pages) { update(address, pages, true); }
  void remove(std::uint64_t address, std::uint64_t pages) { update(address, pages, false); }
  void clear() { chunks_.clear(); }

  [[nodiscard]] bool contains(std::uint64_t address) const {
    const auto at = chunks_.find(address / kChunkBytes);
    return at != chunks_.end() && at->second[address % kChunkBytes / kPageBytes];
  }

  // Cuts `run` into runs that are wholly in the set or wholly out of it, in order, and calls
  // `use(run, in_set)` for each.
  template <class Use>
  void split(const PageRun& run, Use use) const {
    PageRun part = run;
    part.pages = 0;
    bool in_set = false;
    const auto flush = [&] {
      if (part.pages > 0) use(part, in_set);
      part.address += part.pages * kPageBytes;
      part.pages = 0;
    };
    std::uint64_t address = run.address;
    const std::uint64_t end = run.address + run.pages * kPageBytes;
    while (address < end) {
      const std::uint64_t chunk_end = std::min(end, (address / kChunkBytes + 1) * kChunkBytes);
      const auto at = chunks_.find(address / kChunkBytes);
      const bool uniform = at == chunks_.end() || at->second.all();
      const std::uint64_t step = uniform ? chunk_end - address : kPageBytes;
      for (; address < chunk_end; address += step) {
        const bool here =
            at != chunks_.end() && at->second[address % kChunkBytes / kPageBytes];
        if (here != in_set) flush();
        in_set = here;
        part.pages += static_cast<std::uint32_t>(step / kPageBytes);
      }
    }
    flush();
  }

 private:
  using Bits = std::bitset<kChunkPages>;

  void update(std::uint64_t address, std::uint64_t pages, bool value) {
    const std::uint64_t end = address + pages * kPageBytes;
    while (address < end) {
      const std::uint64_t chunk = address / kChunkBytes;
      const std::uint64_t stop = std::min(end, (chunk + 1) * kChunkBytes);
      if (value || chunks_.contains(chunk)) {
        Bits& bits = chunks_[chunk];
        if (stop - address == kChunkBytes) {
          value ? bits.set() : bits.reset();
        } else {
          for (std::uint64_t at = address; at < stop; at += kPageBytes) {
            bits[at % kChunkBytes / kPageBytes] = value;
          }
        }
      }
      address = stop;
    }
  }

  std::unordered_map<std::uint64_t, Bits> chunks_;
};

}  // namespace lifeboat
