#include "criu_glue/dirty_tracker.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>

#include "criu_glue/inject.hpp"
#include "criu_glue/kernel_api.hpp"

namespace lifeboat {

namespace {

// Smaller mappings are not worth a registration: they are sent whole at the end.
constexpr std::uint64_t kTrackedMappingMin = 256U << 10;
constexpr std::size_t kRegionsMax = 16384;

// All of a file in /proc, whose length is not known beforehand.
Result<std::string> read_proc(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT || errno == ESRCH) return fail(Errc::kNotFound, path + ": no such process");
    return fail_errno("open " + path);
  }
  std::string text;
  std::size_t used = 0;
  constexpr std::size_t kTextMax = 256U << 20;
  for (;;) {
    if (text.size() - used < 65536) text.resize(text.size() + 262144);
    const ssize_t n = ::read(fd.get(), text.data() + used, text.size() - used);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == ESRCH) return fail(Errc::kNotFound, path + ": the process has ended");
    if (n < 0) return fail_errno("read " + path);
    if (n == 0) break;
    used += static_cast<std::size_t>(n);
    if (used > kTextMax) return fail(Errc::kSystem, path + " is longer than any process's");
  }
  text.resize(used);
  return text;
}

struct MapLine {
  AddressRange range;
  bool owned = false;
};

// "7f00-7f01 rw-p 00000000 00:00 0   [heap]"
MapLine parse_map_line(std::string_view line) {
  MapLine map;
  const char* at = line.data();
  char* end = nullptr;
  map.range.start = std::strtoull(at, &end, 16);
  map.range.end = std::strtoull(end + 1, &end, 16);
  const char* const modes = end + 1;
  const bool is_private = modes[3] == 'p';
  at = modes + 5;
  (void)std::strtoull(at, &end, 16);              // offset
  const char* const device = end + 1;
  const char* const space = std::strchr(device, ' ');
  const std::uint64_t inode = std::strtoull(space, &end, 10);
  std::string_view name(end, static_cast<std::size_t>(line.data() + line.size() - end));
  name.remove_prefix(std::min(name.find_first_not_of(' '), name.size()));
  const bool anonymous = name.empty() || name == "[heap]" || name.substr(0, 6) == "[stack" ||
                         name.substr(0, 6) == "[anon:";
  map.owned = is_private && inode == 0 && anonymous;
  return map;
}

template <class Use>
void for_each_line(const std::string& text, Use use) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t end = text.find('\n', at);
    if (end == std::string::npos) end = text.size();
    use(std::string_view(text).substr(at, end - at));
    at = end + 1;
  }
}

bool has_locked_memory(pid_t pid) {
  auto status = read_proc("/proc/" + std::to_string(pid) + "/status");
  if (!status) return false;
  const auto at = status->find("VmLck:");
  return at != std::string::npos && std::strtoull(status->c_str() + at + 6, nullptr, 10) > 0;
}

// With the flags of each mapping: slow (it walks the page tables), so only where there is locked memory.
Result<std::vector<AddressRange>> owned_from_smaps(pid_t pid) {
  TRY(const std::string text, read_proc("/proc/" + std::to_string(pid) + "/smaps"));
  std::vector<AddressRange> found;
  MapLine current;
  for_each_line(text, [&](std::string_view line) {
    if (line.substr(0, 8) == "VmFlags:") {
      const std::string flags = std::string(line) + " ";
      const bool carried_by_criu = flags.find(" lo ") != std::string::npos ||
                                   flags.find(" ht ") != std::string::npos;
      if (current.owned && !carried_by_criu) found.push_back(current.range);
    } else if (!line.empty() && (std::isdigit(line[0]) != 0 || (line[0] >= 'a' && line[0] <= 'f'))) {
      current = parse_map_line(line);
    }
  });
  return found;
}

// One PAGEMAP_SCAN over a range, in as many calls as it needs. `use` gets {start, end, categories}.
template <class Use>
int scan_range(int pagemap, AddressRange range, pm_scan_arg arg, std::vector<page_region>& regions,
               Use use) {
  arg.size = sizeof arg;
  arg.start = range.start;
  arg.end = range.end;
  arg.vec = reinterpret_cast<std::uint64_t>(regions.data());
  arg.vec_len = regions.size();
  while (arg.start < arg.end) {
    const int n = ::ioctl(pagemap, PAGEMAP_SCAN, &arg);
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    for (int i = 0; i < n; ++i) use(regions[static_cast<std::size_t>(i)]);
    // Not walk_end: the kernel works in pieces of 512 regions, and after the last piece leaves in it
    // where the piece before had ended. Going on there reports pages twice (Linux 6.18).
    if (static_cast<std::size_t>(n) < regions.size()) break;
    arg.start = regions.back().end;
  }
  return 0;
}

void append(std::vector<PageRun>& runs, const page_region& region, bool written) {
  constexpr std::uint64_t kPagesMax = 1U << 30;
  std::uint64_t address = region.start;
  while (address < region.end) {
    const std::uint64_t pages = std::min<std::uint64_t>((region.end - address) / kPageBytes, kPagesMax);
    runs.push_back({address, static_cast<std::uint32_t>(pages), written});
    address += pages * kPageBytes;
  }
}

}  // namespace

Result<std::vector<AddressRange>> owned_mappings(pid_t pid) {
  if (has_locked_memory(pid)) return owned_from_smaps(pid);
  TRY(const std::string text, read_proc("/proc/" + std::to_string(pid) + "/maps"));
  std::vector<AddressRange> found;
  for_each_line(text, [&](std::string_view line) {
    if (line.size() < 20) return;
    const MapLine map = parse_map_line(line);
    if (map.owned) found.push_back(map.range);
  });
  return found;
}

namespace {

Status enable(int uffd) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_PAGEFAULT_FLAG_WP;
  if (::ioctl(uffd, UFFDIO_API, &api) != 0) return fail_errno("userfaultfd without WP_ASYNC");
  return {};
}

bool register_range(int uffd, const AddressRange& range) {
  uffdio_register request{};
  request.range.start = range.start;
  request.range.len = range.bytes();
  request.mode = UFFDIO_REGISTER_MODE_WP;
  return ::ioctl(uffd, UFFDIO_REGISTER, &request) == 0;
}

pm_scan_arg collect_request() {
  pm_scan_arg arg{};
  arg.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
  arg.category_mask = PAGE_IS_WRITTEN | PAGE_IS_PFNZERO;
  arg.category_inverted = PAGE_IS_PFNZERO;
  arg.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
  arg.return_mask = PAGE_IS_WRITTEN;
  return arg;
}

pm_scan_arg survey_request(bool tracked) {
  pm_scan_arg arg{};
  arg.flags = tracked ? PM_SCAN_CHECK_WPASYNC : 0;
  arg.category_mask = PAGE_IS_PFNZERO;
  arg.category_inverted = PAGE_IS_PFNZERO;
  arg.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED;
  arg.return_mask = tracked ? PAGE_IS_WRITTEN : PAGE_IS_PRESENT;
  return arg;
}

bool probe() {
  const Fd uffd(static_cast<int>(
      ::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)));
  if (!uffd || !enable(uffd.get())) return false;
  constexpr std::size_t kSize = 4 * kPageBytes;
  void* const memory =
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  const Fd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  AddressRange range;
  range.start = reinterpret_cast<std::uint64_t>(memory);
  range.end = range.start + kSize;
  bool good = false;
  if (register_range(uffd.get(), range)) {
    std::memset(memory, 1, kSize);
    std::vector<page_region> regions(8);
    std::uint64_t written = 0;
    const auto count = [&](const page_region& r) { written += (r.end - r.start) / kPageBytes; };
    good = scan_range(pagemap.get(), range, collect_request(), regions, count) == 0 && written == 4;
    written = 0;
    static_cast<volatile char*>(memory)[kPageBytes] = 2;
    good = good && scan_range(pagemap.get(), range, collect_request(), regions, count) == 0 &&
           written == 1;
  }
  ::munmap(memory, kSize);
  return good;
}

}  // namespace

bool can_track_writes() {
  static const bool can = probe();
  return can;
}

Result<std::unique_ptr<DirtyTracker>> DirtyTracker::untracked(pid_t pid) {
  std::unique_ptr<DirtyTracker> tracker(new DirtyTracker(pid));
  const std::string path = "/proc/" + std::to_string(pid) + "/pagemap";
  tracker->pagemap_ = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!tracker->pagemap_) {
    if (errno == ENOENT || errno == ESRCH) return fail(Errc::kNotFound, "the process has ended");
    return fail_errno("open " + path);
  }
  return tracker;
}

Result<std::unique_ptr<DirtyTracker>> DirtyTracker::attach(pid_t pid) {
  if (!can_track_writes()) {
    return fail(Errc::kUnavailable, "this kernel cannot track writes (Linux 6.7 can)");
  }
  TRY(std::unique_ptr<DirtyTracker> tracker, untracked(pid));
  auto uffd = inject_userfaultfd(pid);
  if (!uffd) {
    return fail(Errc::kUnavailable, "process " + std::to_string(pid) + " cannot be tracked: " +
                                        uffd.error().message);
  }
  tracker->uffd_ = std::move(*uffd);
  if (auto ok = enable(tracker->uffd_.get()); !ok) return fail(Errc::kUnavailable, ok.error().message);
  return tracker;
}

DirtyTracker::~DirtyTracker() = default;

Status DirtyTracker::refresh() {
  tracked_.clear();
  if (!uffd_) return {};
  TRY(const std::vector<AddressRange> mappings, owned_mappings(pid_));
  for (const AddressRange& range : mappings) {
    // Registering again what is registered changes nothing: whatever is new at an old address is
    // covered, too.
    if (range.bytes() >= kTrackedMappingMin && register_range(uffd_.get(), range)) {
      tracked_.push_back(range);
    }
  }
  return {};
}

Result<std::vector<PageRun>> DirtyTracker::collect() {
  std::vector<PageRun> runs;
  std::vector<page_region> regions(kRegionsMax);
  for (const AddressRange& range : tracked_) {
    const int error = scan_range(
        pagemap_.get(), range, collect_request(), regions,
        [&](const page_region& region) { append(runs, region, true); });
    // EPERM: something not registered is in the range now. What has been reported is protected and
    // counts; the rest stays written and is found again.
    if (error == ESRCH) return fail(Errc::kNotFound, "the process has ended");
    if (error != 0 && error != EPERM && error != ENOMEM && error != EFAULT) {
      return fail_errno("PAGEMAP_SCAN", error);
    }
  }
  return runs;
}

Result<std::vector<PageRun>> DirtyTracker::survey(
    const std::vector<AddressRange>& mappings) const {
  std::vector<PageRun> runs;
  std::vector<page_region> regions(kRegionsMax);
  for (const AddressRange& range : mappings) {
    const std::size_t before = runs.size();
    if (uffd_) {
      const int error =
          scan_range(pagemap_.get(), range, survey_request(true), regions,
                     [&](const page_region& region) {
                       append(runs, region, (region.categories & PAGE_IS_WRITTEN) != 0);
                     });
      if (error == 0) continue;
      if (error != EPERM) return fail_errno("PAGEMAP_SCAN", error);
      runs.resize(before);  // not registered
    }
    const int error = scan_range(pagemap_.get(), range, survey_request(false), regions,
                                 [&](const page_region& region) { append(runs, region, true); });
    if (error != 0) return fail_errno("PAGEMAP_SCAN", error);
  }
  return runs;
}

}  // namespace lifeboat
