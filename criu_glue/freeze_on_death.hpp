// freeze_on_death.hpp - CRIU's tasks stand still again the moment that CRIU is gone.
//
// CRIU thaws their cgroup to do its work, and holds them by ptrace. Killed, it lets them run on with
// connections in repair mode, whose calls fail. The event loop may be busy when that happens; this is a thread
// of its own that waits for nothing else.
#pragma once

#include <sys/types.h>

#include <thread>

#include "base/cgroup.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

class FreezeOnDeath {
 public:
  FreezeOnDeath() = default;
  // Freezes `cgroup` once process `pid` has ended, unless destroyed before. kSystem: no descriptor left.
  // Throws std::system_error where there is no thread to be had.
  static Result<FreezeOnDeath> watch(pid_t pid, Cgroup cgroup);
  FreezeOnDeath(FreezeOnDeath&&) noexcept = default;
  FreezeOnDeath& operator=(FreezeOnDeath&&) = delete;
  ~FreezeOnDeath();

 private:
  Fd process_;
  Fd stop_;
  std::thread thread_;
};

}  // namespace lifeboat
