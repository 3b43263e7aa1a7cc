#include "criu_glue/pagemap.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>

namespace lifeboat {

namespace {

pm_scan_arg present_request() {
  pm_scan_arg arg{};
  arg.category_mask = PAGE_IS_PFNZERO;
  arg.category_inverted = PAGE_IS_PFNZERO;
  arg.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
  arg.return_mask = PAGE_IS_PRESENT;
  return arg;
}

bool probe_scan() {
  auto own = Pagemap::open(::getpid());
  const AddressRange range{0x10000, 0x10000 + kPageBytes};
  return own && own->scan(range, present_request(), [](const page_region&) {}) == 0;
}

std::uint64_t find_zero_page() {
  void* const memory = ::mmap(nullptr, kPageBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 0;
  (void)*static_cast<volatile char*>(memory);
  AddressRange range;
  range.start = reinterpret_cast<std::uint64_t>(memory);
  range.end = range.start + kPageBytes;
  std::uint64_t place = 0;
  if (auto own = Pagemap::open(::getpid())) {
    (void)own->each_entry(range, [&](std::uint64_t, std::uint64_t entry) {
      if ((entry & pagemap::kFrame) != 0) place = pagemap::place_of(entry);
    });
  }
  ::munmap(memory, kPageBytes);
  return place;
}

}  // namespace

Result<Pagemap> Pagemap::open(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/pagemap";
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT || errno == ESRCH) return fail(Errc::kNotFound, "the process has ended");
    return fail_errno("open " + path);
  }
  return Pagemap(std::move(fd));
}

bool Pagemap::alive() const {
  std::uint64_t entry = 0;
  return ::pread(fd_.get(), &entry, sizeof entry, 0) == sizeof entry;
}

Status Pagemap::read_entries(std::uint64_t address, std::uint64_t* entries, std::size_t count) const {
  auto* at = reinterpret_cast<char*>(entries);
  std::size_t left = count * sizeof *entries;
  auto offset = static_cast<off_t>(address / kPageBytes * sizeof *entries);
  while (left > 0) {
    const ssize_t n = ::pread(fd_.get(), at, left, offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno("read /proc/PID/pagemap");
    if (n == 0) return fail(Errc::kNotFound, "the process has ended");
    at += n;
    offset += n;
    left -= static_cast<std::size_t>(n);
  }
  return {};
}

bool has_pagemap_scan() {
  static const bool has = probe_scan();
  return has;
}

std::uint64_t zero_page_place() {
  static const std::uint64_t place = find_zero_page();
  return place;
}

void RunsOfMapping::add(std::uint64_t start, std::uint64_t end) {
  constexpr std::uint64_t kPagesMax = 1U << 30;
  std::uint64_t pages = (end - start) / kPageBytes;
  if (runs_.size() > first_) {
    PageRun& last = runs_.back();
    if (last.end() == start && last.pages + pages <= kPagesMax) {
      last.pages += static_cast<std::uint32_t>(pages);
      return;
    }
  }
  while (pages > 0) {
    const std::uint64_t part = std::min(pages, kPagesMax);
    runs_.push_back({start, static_cast<std::uint32_t>(part)});
    start += part * kPageBytes;
    pages -= part;
  }
}

tl::unexpected<Error> scan_failed(int error) {
  if (error == ESRCH) return fail(Errc::kNotFound, "the process has ended");
  return fail_errno("PAGEMAP_SCAN", error);
}

Status append_present(const Pagemap& pagemap, AddressRange range, std::vector<PageRun>& runs) {
  RunsOfMapping found(runs);
  if (has_pagemap_scan()) {
    const int error = pagemap.scan(range, present_request(), [&](const page_region& region) {
      found.add(region.start, region.end);
    });
    if (error != 0) return scan_failed(error);
    return {};
  }
  const std::uint64_t zero = zero_page_place();
  return pagemap.each_entry(range, [&](std::uint64_t address, std::uint64_t entry) {
    const std::uint64_t place = pagemap::place_of(entry);
    if (place != 0 && place != zero) found.add(address, address + kPageBytes);
  });
}

}  // namespace lifeboat
