// dirty_tracker.hpp - which pages of a process were written since they were last looked at.
//
// Only memory that Lifeboat carries itself is of interest: the private anonymous mappings that CRIU
// restores lazily (owned_mappings()). Everything else is CRIU's.
//
// Backend: userfaultfd in asynchronous write-protect mode and PAGEMAP_SCAN (Linux 6.7). The
// userfaultfd is made inside the process (one system call injected by ptrace, through the vDSO)
// and taken over with pidfd_getfd; the process goes on at once. It costs the process about 1.1
// microseconds for the first write to a page after each collect().
//
// What cannot be tracked (new mappings, forked children, a process that refuses the injection) is
// reported as written, never as clean.
#pragma once

#include <memory>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat {

// The mappings of a process that CRIU's restore registers for lazy pages: private and anonymous, not
// locked, not huge-TLB, none of the kernel's own ([vdso], [vvar], [vsyscall]). Sorted, one by one: the
// pager must not copy across their borders. kNotFound when the process is gone. See
// vma_entry_can_be_lazy() in CRIU's sources.
Result<std::vector<AddressRange>> owned_mappings(pid_t pid);

// True when this kernel can track (PAGEMAP_SCAN with write-protect, userfaultfd WP_ASYNC).
bool can_track_writes();

class DirtyTracker {
 public:
  // Injects the userfaultfd. kUnavailable when the kernel or the process does not allow it; then
  // the process is as before and its pages must be taken as written. The process must not be
  // frozen. Takes 0.3 ms; one thread of the process stands still meanwhile.
  static Result<std::unique_ptr<DirtyTracker>> attach(pid_t pid);

  // Follows a process without tracking: collect() and survey() report all its pages as written.
  static Result<std::unique_ptr<DirtyTracker>> untracked(pid_t pid);

  // Ends tracking: closing the userfaultfd costs up to 22 ms per GB of the process's page tables.
  ~DirtyTracker();
  DirtyTracker(const DirtyTracker&) = delete;
  DirtyTracker& operator=(const DirtyTracker&) = delete;

  // Reads the mappings and registers those that are new. Every thread of the process must be frozen:
  // registering while it changes its mappings can split a mapping that it then fails to move. 0.3 ms.
  Status refresh();

  // Pages written since the last call (all that are there, the first time), write-protected again
  // in the same step. The process may run. Only within mappings seen by the last refresh(), and
  // only tracked ones: the others come with survey().
  Result<std::vector<PageRun>> collect();

  // All pages that are there within `mappings` (owned_mappings() of now), those not tracked or
  // written since collect() with `written` set. Protects nothing. For a frozen process: this and
  // the pages sent before are its whole memory.
  Result<std::vector<PageRun>> survey(const std::vector<AddressRange>& mappings) const;

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool tracking() const { return uffd_.valid(); }

 private:
  explicit DirtyTracker(pid_t pid) : pid_(pid) {}

  pid_t pid_;
  Fd pagemap_;
  Fd uffd_;
  std::vector<AddressRange> tracked_;  // registered by the last refresh(), sorted
};

}  // namespace lifeboat
