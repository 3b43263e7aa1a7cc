// removed_ranges.hpp - what processes give back of their memory by madvise(): MADV_REMOVE, which makes a hole in a
// shared file, and MADV_DONTNEED. A page that is written to loses its write protection, one that is taken away keeps
// it; only this event tells (UFFD_FEATURE_EVENT_REMOVE). It comes before the memory goes, and the process waits until
// it has been read: a thread does that at once.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat {

class RemovedRanges {
 public:
  // Of this process.
  struct Place {
    pid_t pid = 0;
    AddressRange range;
  };

  RemovedRanges() = default;
  // Reads the events of these userfaultfds, of a process each, until destroyed: before they are closed. kSystem: no
  // descriptor, no thread is left.
  static Result<RemovedRanges> watch(std::vector<std::pair<pid_t, int>> uffds);
  RemovedRanges(RemovedRanges&&) noexcept = default;
  RemovedRanges& operator=(RemovedRanges&& other) noexcept;
  ~RemovedRanges() { stop(); }

  // Everything so far; of a process that runs, what it is about to do, too. Nothing when there was more than is kept.
  [[nodiscard]] std::optional<std::vector<Place>> so_far() const;

 private:
  struct Shared;
  void stop();

  Fd stop_;
  std::shared_ptr<Shared> shared_;  // with the thread
  std::thread thread_;
};

}  // namespace lifeboat
