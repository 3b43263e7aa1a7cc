// fork_counter.hpp - whether a container has begun a process or a thread, be it one that has ended since.
//
// A pid namespace gives numbers one after the other, also to processes in namespaces below it, and keeps where it
// looks for the next: as long as that stays, nothing was begun. /proc tells it only from within (ns_last_pid).
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/result.hpp"
#include "criu_glue/bpf_iterator.hpp"

namespace lifeboat {

class ForkCounter {
 public:
  // Loads the program. kUnavailable, kSystem: this kernel has no such iterator (Linux 6.1, with
  // CONFIG_DEBUG_INFO_BTF), or does not let us.
  static Result<ForkCounter> open();
  // A number that is another one after each beginning, of the namespace that `init` is the first process of.
  [[nodiscard]] Result<std::uint64_t> read(pid_t init) const;

 private:
  explicit ForkCounter(BpfIterator task) : task_(std::move(task)) {}
  BpfIterator task_;
};

}  // namespace lifeboat
