#include "criu_glue/hide_list.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <tuple>

#include "criu_glue/hide_pages.h"
#include "criu_glue/memory.hpp"

namespace lifeboat {
namespace {

// More than the mappings of any container; only what is used takes memory.
constexpr std::uint32_t kRangesMax = 1U << 20;
constexpr std::size_t kListBytes =
    sizeof(lifeboat_hide_list) + kRangesMax * sizeof(lifeboat_hidden_range);

std::uint64_t value_of(const std::uint64_t& counter) {
  return __atomic_load_n(&counter, __ATOMIC_RELAXED);
}

Status check(const std::vector<HiddenRange>& sorted) {
  const HiddenRange* before = nullptr;
  for (const HiddenRange& range : sorted) {
    const bool aligned = range.start % kPageBytes == 0 && range.end % kPageBytes == 0;
    const bool overlaps =
        before != nullptr && before->pid == range.pid && before->end > range.start;
    if (range.pid == 0 || range.start >= range.end || !aligned || overlaps) {
      return fail(Errc::kInvalid, "memory to hide from criu: a range of process " +
                                      std::to_string(range.pid) + " is malformed");
    }
    before = &range;
  }
  return {};
}

}  // namespace

Result<HideList> HideList::create() {
  Fd fd(::memfd_create("lifeboat-hide", MFD_CLOEXEC));
  if (!fd) return fail_errno("memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(kListBytes)) != 0) return fail_errno("size memfd");
  void* memory = ::mmap(nullptr, kListBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return fail_errno("map memfd");
  auto* list = static_cast<lifeboat_hide_list*>(memory);
  list->magic = LIFEBOAT_HIDE_MAGIC;
  list->version = LIFEBOAT_HIDE_VERSION;
  list->capacity = kRangesMax;
  return HideList(std::move(fd), list);
}

HideList::HideList(HideList&& other) noexcept
    : fd_(std::move(other.fd_)), list_(std::exchange(other.list_, nullptr)) {}

HideList::~HideList() {
  if (list_ != nullptr) ::munmap(list_, kListBytes);
}

Status HideList::set(std::vector<HiddenRange> ranges) {
  if (ranges.size() > kRangesMax) {
    return fail(Errc::kRefused, "the container has " + std::to_string(ranges.size()) +
                                    " mappings, more than can be kept from criu");
  }
  std::sort(ranges.begin(), ranges.end(), [](const HiddenRange& a, const HiddenRange& b) {
    return std::tie(a.pid, a.start) < std::tie(b.pid, b.start);
  });
  CHECK_OK(check(ranges));
  __atomic_store_n(&list_->count, 0, __ATOMIC_RELEASE);
  std::uint64_t count = 0;
  for (const HiddenRange& range : ranges) {
    lifeboat_hidden_range& entry = list_->ranges[count++];
    entry.pid = range.pid;
    entry.start = range.start;
    entry.end = range.end;
  }
  __atomic_store_n(&list_->count, count, __ATOMIC_RELEASE);
  return {};
}

void HideList::set_files(const std::vector<CarriedFile>& files) {
  __atomic_store_n(&list_->file_count, 0, __ATOMIC_RELEASE);
  std::uint64_t count = 0;
  for (const CarriedFile& file : files) {
    if (count == LIFEBOAT_FILES_MAX) break;
    lifeboat_file& entry = list_->files[count];
    const std::string path = file.anonymous ? "" : file.path;
    if (path.size() >= sizeof entry.path) continue;
    entry.device = file.device;
    entry.inode = file.inode;
    path.copy(entry.path, path.size());
    entry.path[path.size()] = '\0';
    ++count;
  }
  __atomic_store_n(&list_->file_count, count, __ATOMIC_RELEASE);
}

std::optional<std::size_t> HideList::add_text(std::uint32_t pid, const std::string& path) {
  for (std::size_t slot = 0; slot < LIFEBOAT_TEXTS_MAX; ++slot) {
    lifeboat_text& text = list_->texts[slot];
    if (text.state != LIFEBOAT_TEXT_NONE) continue;
    if (path.size() >= sizeof text.path) return std::nullopt;
    path.copy(text.path, path.size());
    text.path[path.size()] = '\0';
    text.pid = pid;
    __atomic_store_n(&text.state, LIFEBOAT_TEXT_READING, __ATOMIC_RELEASE);
    return slot;
  }
  return std::nullopt;
}

void HideList::set_text(std::size_t slot, bool ready) {
  lifeboat_text& text = list_->texts[slot];
  if (!ready) text.pid = 0;  // whoever waits for it reads it himself
  __atomic_store_n(&text.state, LIFEBOAT_TEXT_READY, __ATOMIC_RELEASE);
}

void HideList::clear_texts() {
  for (lifeboat_text& text : list_->texts) {
    __atomic_store_n(&text.state, LIFEBOAT_TEXT_NONE, __ATOMIC_RELEASE);
  }
}

HideCounters HideList::counters() const {
  HideCounters counters;
  counters.loads = value_of(list_->loads);
  counters.scans = value_of(list_->scans);
  counters.hidden_scans = value_of(list_->hidden_scans);
  counters.hidden_ranges = value_of(list_->hidden_ranges);
  counters.unknown_scans = value_of(list_->unknown_scans);
  counters.texts_used = value_of(list_->texts_used);
  counters.files_named = value_of(list_->files_named);
  return counters;
}

}  // namespace lifeboat
