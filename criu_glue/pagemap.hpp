// pagemap.hpp - /proc/PID/pagemap: which pages of a process are there, by PAGEMAP_SCAN where the kernel
// has it (Linux 6.7), else entry by entry.
//
// The open file belongs to the memory that the process had when it was opened: after an exec it shows
// nothing any more.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "criu_glue/kernel_api.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat {

// An entry of the file, see Documentation/admin-guide/mm/pagemap.rst.
namespace pagemap {
inline constexpr std::uint64_t kPresent = 1ULL << 63;
inline constexpr std::uint64_t kSwapped = 1ULL << 62;
inline constexpr std::uint64_t kSoftDirty = 1ULL << 55;
inline constexpr std::uint64_t kFrame = (1ULL << 55) - 1;  // or where in swap
// Where the page lies: another page there has another place. 0: there is none.
inline std::uint64_t place_of(std::uint64_t entry) {
  return (entry & (kPresent | kSwapped)) == 0 ? 0 : entry & (kPresent | kSwapped | kFrame);
}
}  // namespace pagemap

class Pagemap {
 public:
  // kNotFound when there is no such process.
  static Result<Pagemap> open(pid_t pid);

  // False when the memory is gone: the process has ended or begun another program.
  [[nodiscard]] bool alive() const;

  // One PAGEMAP_SCAN over a range, in as many calls as it needs. `use` gets a page_region. The
  // kernel's errno; what was used before an error stands.
  template <class Use>
  int scan(AddressRange range, pm_scan_arg arg, Use use) const;

  // `use` gets {address, entry} of each page. The file is read 256 KiB at a time, 128 MiB of memory.
  template <class Use>
  Status each_entry(AddressRange range, Use use) const;

 private:
  static constexpr std::size_t kRegions = 16384;
  static constexpr std::size_t kEntries = 32768;
  explicit Pagemap(Fd fd) : fd_(std::move(fd)) {}
  Status read_entries(std::uint64_t address, std::uint64_t* entries, std::size_t count) const;

  Fd fd_;
};

// True when this kernel has PAGEMAP_SCAN.
bool has_pagemap_scan();

// The entry of the page that stands for all pages that were read but never written, without its
// flags; 0 when the kernel does not show where pages lie (no CAP_SYS_ADMIN).
std::uint64_t zero_page_place();

// Adds the pages of one mapping to a list of runs; no run reaches into the next mapping.
class RunsOfMapping {
 public:
  explicit RunsOfMapping(std::vector<PageRun>& runs) : runs_(runs), first_(runs.size()) {}
  // In order of addresses.
  void add(std::uint64_t start, std::uint64_t end);

 private:
  std::vector<PageRun>& runs_;
  std::size_t first_;
};

// The error of a scan.
tl::unexpected<Error> scan_failed(int error);

// All pages of `range` that are there, by whichever way the kernel has.
Status append_present(const Pagemap& pagemap, AddressRange range, std::vector<PageRun>& runs);

template <class Use>
int Pagemap::scan(AddressRange range, pm_scan_arg arg, Use use) const {
  // At worst every other page of a small range.
  const std::size_t room = std::min<std::uint64_t>(kRegions, range.bytes() / kPageBytes / 2 + 1);
  const auto regions = std::make_unique_for_overwrite<page_region[]>(room);
  arg.size = sizeof arg;
  arg.start = range.start;
  arg.end = range.end;
  arg.vec = reinterpret_cast<std::uint64_t>(regions.get());
  arg.vec_len = room;
  while (arg.start < arg.end) {
    const int n = ::ioctl(fd_.get(), PAGEMAP_SCAN, &arg);
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    // The kernel (seen with 6.18) tells a `walk_end` of half-way when it has walked to the end in more
    // than one step, which it does when there are more than 512 regions.
    std::uint64_t next = arg.walk_end;
    for (int i = 0; i < n; ++i) {
      const page_region& region = regions[static_cast<std::size_t>(i)];
      use(region);
      next = std::max<std::uint64_t>(next, region.end);
    }
    if (next <= arg.start) return EIO;  // what is left out would be taken as clean
    arg.start = next;
  }
  return 0;
}

template <class Use>
Status Pagemap::each_entry(AddressRange range, Use use) const {
  std::vector<std::uint64_t> entries(std::min<std::uint64_t>(kEntries, range.bytes() / kPageBytes));
  for (std::uint64_t at = range.start; at < range.end; at += entries.size() * kPageBytes) {
    const std::size_t count = std::min<std::uint64_t>(entries.size(), (range.end - at) / kPageBytes);
    CHECK_OK(read_entries(at, entries.data(), count));
    for (std::size_t i = 0; i < count; ++i) use(at + i * kPageBytes, entries[i]);
  }
  return {};
}

}  // namespace lifeboat
