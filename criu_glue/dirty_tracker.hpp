// dirty_tracker.hpp - which pages of a process were written since they were last looked at.
//
// Only memory that Lifeboat carries itself is of interest (owned_mappings()). Everything else is CRIU's.
//
// Two backends; what the kernel has decides, or the operator (engine.tracking):
//   userfaultfd  asynchronous write-protect and PAGEMAP_SCAN (Linux 6.7): userfaultfd_tracker.hpp
//   soft-dirty   /proc/PID/clear_refs and pagemap (any kernel with CONFIG_MEM_SOFT_DIRTY):
//                soft_dirty_tracker.hpp
//
// What cannot be tracked (new mappings, forked children, a process that refuses) is reported as
// written, never as clean.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "criu_glue/mappings.hpp"
#include "criu_glue/memory.hpp"
#include "criu_glue/pagemap.hpp"
#include "criu_glue/tracking.hpp"

namespace lifeboat {

// What there is of a process's memory, in order of addresses; no run reaches into the next mapping.
struct Survey {
  std::vector<PageRun> there;
  std::vector<PageRun> written;  // of these: not tracked, or written since they were collected
};

// True when this kernel can track writes this way; kAuto: in any way.
bool can_track_writes(Tracking tracking = Tracking::kAuto);

// As a child of vfork() does until its exec; its parent waits in the kernel meanwhile, and does not stop for
// anybody who traces it.
bool shares_its_parents_memory(pid_t pid);

class DirtyTracker {
 public:
  // kUnavailable when the kernel or the process does not allow it, kNotFound when it has ended; then the process
  // is as before and its pages must be taken as written. The process must not be frozen. kAuto takes userfaultfd,
  // and soft-dirty where that is not to be had.
  static Result<std::unique_ptr<DirtyTracker>> attach(pid_t pid, Tracking tracking = Tracking::kAuto);

  // Follows a process without tracking: look() finds nothing, survey() reports all its pages as
  // written.
  static Result<std::unique_ptr<DirtyTracker>> untracked(pid_t pid);

  virtual ~DirtyTracker() = default;
  DirtyTracker(const DirtyTracker&) = delete;
  DirtyTracker& operator=(const DirtyTracker&) = delete;

  // Before each look(): takes new mappings into account. Every thread of the process must be
  // frozen. 0.3 ms; with soft-dirty it grows with the memory.
  virtual Status refresh() = 0;

  // Pages written since they were last collected (all that are there, the first time), of the mappings
  // seen by the last refresh(), and only of tracked ones: the others come with survey(). Changes nothing
  // (soft-dirty: a second look after the same refresh() is at what was written since that). The process may
  // run, here as below.
  virtual Result<std::vector<PageRun>> look() = 0;
  // Collects what is written of `range` by now (with soft-dirty: what was by the refresh()): from now on,
  // writes to these pages count as new. After a look(); ranges that are apart by several threads at once.
  virtual Result<std::vector<PageRun>> collect(const AddressRange& range) = 0;
  // Collects all that is written of the process.
  virtual Result<std::vector<PageRun>> collect() = 0;

  // All pages that are there within `mappings` (owned_mappings() of now). Changes nothing. For a frozen
  // process: this and the pages sent before are its whole memory.
  [[nodiscard]] virtual Result<Survey> survey(const std::vector<AddressRange>& mappings) const = 0;

  [[nodiscard]] virtual Tracking kind() const = 0;
  [[nodiscard]] bool tracking() const { return kind() != Tracking::kNone; }
  [[nodiscard]] pid_t pid() const { return pid_; }

  // False when the process has ended or begun another program (exec): then this tracker is of no
  // use any more, and nothing of what it said holds for the new memory.
  [[nodiscard]] bool current() const;
  // Whether an error of the calls above says no more than that: a zombie has no memory, and one that has
  // begun another program needs a new tracker.
  [[nodiscard]] bool is_gone(const Error& error) const { return error.code == Errc::kNotFound || !current(); }

 protected:
  DirtyTracker(pid_t pid, Pagemap pagemap);

  Pagemap pagemap_;

 private:
  pid_t pid_;
  std::string program_;
};

}  // namespace lifeboat
