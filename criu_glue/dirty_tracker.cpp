#include "criu_glue/dirty_tracker.hpp"

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include "criu_glue/soft_dirty_tracker.hpp"
#include "criu_glue/userfaultfd_tracker.hpp"

namespace lifeboat {

namespace {

class NoTracker : public DirtyTracker {
 public:
  NoTracker(pid_t pid, Pagemap pagemap) : DirtyTracker(pid, std::move(pagemap)) {}

  Status refresh() override { return {}; }
  Result<std::vector<PageRun>> look() override { return std::vector<PageRun>{}; }
  Result<std::vector<PageRun>> collect(const AddressRange&) override { return std::vector<PageRun>{}; }
  Result<std::vector<PageRun>> collect() override { return std::vector<PageRun>{}; }
  [[nodiscard]] Result<Survey> survey(const std::vector<AddressRange>& mappings) const override {
    Survey found;
    for (const AddressRange& range : mappings) CHECK_OK(append_present(pagemap_, range, found.there));
    found.written = found.there;
    return found;
  }
  [[nodiscard]] Tracking kind() const override { return Tracking::kNone; }
};

// What exec sets anew and nothing else changes (but prctl(PR_SET_MM), in vain): where code, stack
// and arguments lie, at random addresses. Fields 26 to 28 of /proc/PID/stat and 45 to 51.
std::string program_of(pid_t pid) {
  auto text = read_proc("/proc/" + std::to_string(pid) + "/stat");
  if (!text) return {};
  std::string program;
  std::size_t at = text->rfind(')');
  for (int field = 2; at != std::string::npos && field < 51; ++field) {
    const std::size_t end = text->find(' ', at + 1);
    if ((field >= 26 && field <= 28) || field >= 45) program += text->substr(at, end - at);
    at = end;
  }
  return program;
}

tl::unexpected<Error> kernel_cannot(Tracking tracking) {
  switch (tracking) {
    case Tracking::kUserfaultfd:
      return fail(Errc::kUnavailable,
                  "this kernel cannot track writes by userfaultfd (Linux 6.7 can)");
    case Tracking::kSoftDirty:
      return fail(Errc::kUnavailable,
                  "this kernel cannot track writes by soft-dirty bits (no CONFIG_MEM_SOFT_DIRTY, or "
                  "lifeboatd has no CAP_SYS_ADMIN)");
    case Tracking::kNone:
      return fail(Errc::kUnavailable, "engine.tracking is none");
    case Tracking::kAuto:
      break;
  }
  return fail(Errc::kUnavailable,
              "this kernel cannot track writes: neither by userfaultfd (Linux 6.7 can) nor by "
              "soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)");
}

}  // namespace

bool shares_its_parents_memory(pid_t pid) {
  const auto text = read_proc("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t name_end = text ? text->rfind(')') : std::string::npos;
  int parent = 0;
  if (name_end == std::string::npos ||
      std::sscanf(text->c_str() + name_end, ") %*c %d", &parent) != 1 || parent <= 0) {
    return false;
  }
  return ::syscall(SYS_kcmp, pid, parent, KCMP_VM, 0, 0) == 0;
}

const char* to_string(Tracking tracking) {
  switch (tracking) {
    case Tracking::kAuto: return "auto";
    case Tracking::kUserfaultfd: return "userfaultfd";
    case Tracking::kSoftDirty: return "soft-dirty";
    case Tracking::kNone: return "none";
  }
  return "?";
}

bool can_track_writes(Tracking tracking) {
  static const bool userfaultfd = UserfaultfdTracker::kernel_can();
  static const bool soft_dirty = SoftDirtyTracker::kernel_can();
  switch (tracking) {
    case Tracking::kAuto: return userfaultfd || soft_dirty;
    case Tracking::kUserfaultfd: return userfaultfd;
    case Tracking::kSoftDirty: return soft_dirty;
    case Tracking::kNone: return false;
  }
  return false;
}

DirtyTracker::DirtyTracker(pid_t pid, Pagemap pagemap)
    : pagemap_(std::move(pagemap)), pid_(pid), program_(program_of(pid)) {}

bool DirtyTracker::current() const { return pagemap_.alive() && program_of(pid_) == program_; }

Result<std::unique_ptr<DirtyTracker>> DirtyTracker::untracked(pid_t pid) {
  TRY(Pagemap pagemap, Pagemap::open(pid));
  return std::make_unique<NoTracker>(pid, std::move(pagemap));
}

Result<std::unique_ptr<DirtyTracker>> DirtyTracker::attach(pid_t pid, Tracking tracking) {
  if (!can_track_writes(tracking)) return kernel_cannot(tracking);
  // What was written would be told to whoever looks first.
  if (shares_its_parents_memory(pid)) {
    return fail(Errc::kUnavailable, "process " + std::to_string(pid) + " lives in its parent's memory");
  }
  if (tracking == Tracking::kSoftDirty) return SoftDirtyTracker::attach(pid);
  if (tracking == Tracking::kUserfaultfd) return UserfaultfdTracker::attach(pid);
  if (can_track_writes(Tracking::kUserfaultfd)) {
    auto tracker = UserfaultfdTracker::attach(pid);
    if (tracker || !can_track_writes(Tracking::kSoftDirty)) return tracker;
  }
  return SoftDirtyTracker::attach(pid);
}

}  // namespace lifeboat
