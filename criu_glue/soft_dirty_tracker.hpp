// soft_dirty_tracker.hpp - writes tracked by the soft-dirty bits of /proc/PID/pagemap, which
// /proc/PID/clear_refs clears: for kernels before 6.7 with CONFIG_MEM_SOFT_DIRTY.
//
// Nothing is done inside the process. The kernel clears the bits of a whole process at once and does
// not say what it cleared: a page written between reading and clearing would be lost. So refresh()
// reads and clears while the process is frozen; the freeze grows with its memory (8 bytes read per
// page, and one walk over its page tables).
//
// The bit alone is not to be trusted: mremap() of 2 MiB pieces moves page tables as they are, and
// merging mappings may drop the mark of a new one. So where each page lies (its frame, or its slot
// in swap) is kept, too: one that lies elsewhere than at the last look counts as written. A page
// that stays in its frame cannot have changed without the bit. That needs 2 MiB per GiB of memory, and
// reports pages that the kernel moved (swap, compaction, huge pages made). A huge page is written as a
// whole: 2 MiB.
#pragma once

#include <array>
#include <unordered_map>

#include "base/fd.hpp"
#include "criu_glue/dirty_tracker.hpp"

namespace lifeboat {

class SoftDirtyTracker : public DirtyTracker {
 public:
  static bool kernel_can();
  static Result<std::unique_ptr<DirtyTracker>> attach(pid_t pid);

  SoftDirtyTracker(pid_t pid, Pagemap pagemap, Fd clear_refs)
      : DirtyTracker(pid, std::move(pagemap)), clear_refs_(std::move(clear_refs)) {}

  Status refresh() override;
  // Without a refresh() since the last call: what was written since that, still to be found later.
  Result<std::vector<PageRun>> look() override;
  Result<std::vector<PageRun>> collect(const AddressRange& range) override;
  Result<std::vector<PageRun>> collect() override { return look(); }
  [[nodiscard]] Result<Survey> survey(const std::vector<AddressRange>& mappings) const override;
  [[nodiscard]] Tracking kind() const override { return Tracking::kSoftDirty; }

 private:
  // Where pages lie, by chunks of the address space; 0: it is not there.
  using Places = std::unordered_map<std::uint64_t, std::array<std::uint64_t, kChunkPages>>;

  // The pages that are there, with what is known of each. `places`, if given, gets where they lie.
  Status read(const AddressRange& range, Survey& survey, Places* places) const;

  Fd clear_refs_;
  std::vector<AddressRange> looked_at_;  // when the bits were cleared last
  Places places_;                        // of then
  std::vector<PageRun> found_;           // by refresh(), sorted
  bool collected_ = true;                // false: what was found has not been asked for yet
};

}  // namespace lifeboat
