// memory.hpp - units and ranges of a container's memory, shared by tracker, transfer and pager.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lifeboat {

inline constexpr std::uint64_t kPageBytes = 4096;
// Pages travel and are kept by aligned chunks of this size: what one connection, one thread and one
// piece of the store are responsible for.
inline constexpr std::uint64_t kChunkBytes = 2U << 20;
inline constexpr std::uint32_t kChunkPages = kChunkBytes / kPageBytes;

// Addresses in a process, aligned to pages, `end` excluded.
struct AddressRange {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  [[nodiscard]] std::uint64_t bytes() const { return end - start; }
  bool operator==(const AddressRange&) const = default;
};

// Bytes of a file, whole pages, `end` excluded.
struct FileRange {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  bool operator==(const FileRange&) const = default;
};

// Consecutive pages of one process that are there (in memory or in swap, not the zero page).
struct PageRun {
  std::uint64_t address = 0;
  std::uint32_t pages = 0;
  [[nodiscard]] std::uint64_t end() const { return address + pages * kPageBytes; }
  bool operator==(const PageRun&) const = default;
};

}  // namespace lifeboat
