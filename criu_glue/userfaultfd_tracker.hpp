// userfaultfd_tracker.hpp - writes tracked by a userfaultfd in asynchronous write-protect mode and
// PAGEMAP_SCAN (Linux 6.7).
//
// The userfaultfd is made inside the process (one system call injected by ptrace, through the vDSO)
// and taken over with pidfd_getfd; the process goes on at once. It costs the process about 1.1
// microseconds for the first write to a page after it was collected. Looking and protecting again is
// one step per page, so collecting needs no freeze.
//
// Closing it costs up to 22 ms per GB of the process's page tables.
#pragma once

#include "base/fd.hpp"
#include "criu_glue/dirty_tracker.hpp"

namespace lifeboat {

class UserfaultfdTracker : public DirtyTracker {
 public:
  static bool kernel_can();
  // Takes 0.3 ms; one thread of the process stands still meanwhile.
  static Result<std::unique_ptr<DirtyTracker>> attach(pid_t pid);

  UserfaultfdTracker(pid_t pid, Pagemap pagemap, Fd uffd)
      : DirtyTracker(pid, std::move(pagemap)), uffd_(std::move(uffd)) {}

  // Registers mappings that are new. Frozen, because registering while the process changes its
  // mappings can split a mapping that it then fails to move.
  Status refresh() override;
  Result<std::vector<PageRun>> look() override;
  Result<std::vector<PageRun>> collect(const AddressRange& range) override;
  Result<std::vector<PageRun>> collect() override;
  [[nodiscard]] Result<Survey> survey(const std::vector<AddressRange>& mappings) const override;
  [[nodiscard]] Tracking kind() const override { return Tracking::kUserfaultfd; }

 private:
  [[nodiscard]] bool track(const AddressRange& range) const;
  // What `request` finds of `range` in tracked mappings.
  [[nodiscard]] Result<std::vector<PageRun>> scan(const AddressRange& range, const pm_scan_arg& request) const;
  // Of one mapping. An errno; EPERM, and nothing found: it is not registered.
  int survey_tracked(const AddressRange& range, Survey& found) const;

  Fd uffd_;
  std::vector<AddressRange> tracked_;  // registered by the last refresh(), sorted
  bool refreshed_ = false;
};

}  // namespace lifeboat
