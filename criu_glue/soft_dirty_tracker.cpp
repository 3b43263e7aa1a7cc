#include "criu_glue/soft_dirty_tracker.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

namespace lifeboat {

// A page just written has the bit where the kernel has it; and where pages lie must be shown.
bool SoftDirtyTracker::kernel_can() {
  void* const memory =
      ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  *static_cast<volatile char*>(memory) = 1;
  AddressRange range;
  range.start = reinterpret_cast<std::uint64_t>(memory);
  range.end = range.start + kPageBytes;
  bool good = false;
  if (const auto own = Pagemap::open(::getpid())) {
    (void)own->each_entry(range, [&](std::uint64_t, std::uint64_t entry) {
      good = (entry & pagemap::kSoftDirty) != 0 && (entry & pagemap::kFrame) != 0;
    });
  }
  ::munmap(memory, kPageBytes);
  return good && zero_page_place() != 0;
}

Result<std::unique_ptr<DirtyTracker>> SoftDirtyTracker::attach(pid_t pid) {
  TRY(Pagemap pagemap, Pagemap::open(pid));
  const std::string path = "/proc/" + std::to_string(pid) + "/clear_refs";
  Fd clear_refs(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!clear_refs) {
    const int error = errno;
    return fail(Errc::kUnavailable, "process " + std::to_string(pid) + " cannot be tracked: " +
                                        fail_errno("open " + path, error).value().message);
  }
  // A zombie has no memory; the write to clear_refs would succeed all the same.
  if (!pagemap.alive()) return fail(Errc::kUnavailable, "the process has no memory any more");
  return std::make_unique<SoftDirtyTracker>(pid, std::move(pagemap), std::move(clear_refs));
}

Status SoftDirtyTracker::read(const AddressRange& range, Survey& survey, Places* places) const {
  RunsOfMapping there(survey.there);
  RunsOfMapping written(survey.written);
  const std::uint64_t zero = zero_page_place();
  std::uint64_t chunk = ~0ULL;
  auto before = places_.end();
  return pagemap_.each_entry(range, [&](std::uint64_t address, std::uint64_t entry) {
    const std::uint64_t place = pagemap::place_of(entry);
    if (place == 0 || place == zero) return;
    if (address / kChunkBytes != chunk) {
      chunk = address / kChunkBytes;
      before = places_.find(chunk);
    }
    const std::size_t page = address % kChunkBytes / kPageBytes;
    const bool stayed = before != places_.end() && before->second[page] == place;
    there.add(address, address + kPageBytes);
    if (!stayed || (entry & pagemap::kSoftDirty) != 0) written.add(address, address + kPageBytes);
    if (places != nullptr) (*places)[chunk][page] = place;
  });
}

Status SoftDirtyTracker::refresh() {
  if (!collected_) places_.clear();  // what was found then is lost: all counts as written
  TRY(std::vector<AddressRange> mappings, owned_mappings(pid()));
  std::erase_if(mappings, [](const AddressRange& range) { return range.bytes() < kTrackedMappingMin; });
  Places places;
  Survey found;
  for (const AddressRange& range : mappings) CHECK_OK(read(range, found, &places));
  if (::pwrite(clear_refs_.get(), "4", 1, 0) != 1) return fail_errno("write /proc/PID/clear_refs");
  looked_at_ = std::move(mappings);
  places_ = std::move(places);
  found_ = std::move(found.written);
  collected_ = false;
  return {};
}

Result<std::vector<PageRun>> SoftDirtyTracker::look() {
  if (!std::exchange(collected_, true)) return found_;
  Survey found;
  for (const AddressRange& range : looked_at_) CHECK_OK(read(range, found, nullptr));
  return std::move(found.written);
}

Result<std::vector<PageRun>> SoftDirtyTracker::collect(const AddressRange& range) {
  std::vector<PageRun> found;
  const auto ends_before = [](const PageRun& run, std::uint64_t start) { return run.end() <= start; };
  for (auto run = std::lower_bound(found_.begin(), found_.end(), range.start, ends_before);
       run != found_.end() && run->address < range.end; ++run) {
    const std::uint64_t start = std::max(run->address, range.start);
    const std::uint64_t end = std::min(run->end(), range.end);
    found.push_back({start, static_cast<std::uint32_t>((end - start) / kPageBytes)});
  }
  return found;
}

Result<Survey> SoftDirtyTracker::survey(const std::vector<AddressRange>& mappings) const {
  Survey found;
  for (const AddressRange& range : mappings) {
    if (collected_) {
      CHECK_OK(read(range, found, nullptr));
    } else {
      CHECK_OK(append_present(pagemap_, range, found.there));
    }
  }
  if (!collected_) found.written = found.there;
  return found;
}

}  // namespace lifeboat
