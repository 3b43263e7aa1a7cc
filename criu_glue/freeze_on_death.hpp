// freeze_on_death.hpp - CRIU's tasks stand still again the moment that CRIU is gone.
//
// CRIU thaws their cgroup to do its work, and holds them by ptrace. Killed, it lets them run on with
// connections in repair mode, whose calls fail. The event loop hears of it in a millisecond or more; this, a
// thread of its own that waits for nothing else, in some ten microseconds.
#pragma once

#include <string>
#include <thread>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

class FreezeOnDeath {
 public:
  FreezeOnDeath() = default;
  // Freezes `cgroup` once process `pid` has ended, unless destroyed before. kSystem: no descriptor left.
  // Throws std::system_error where there is no thread to be had.
  static Result<FreezeOnDeath> watch(pid_t pid, const std::string& cgroup);
  FreezeOnDeath(FreezeOnDeath&&) noexcept = default;
  FreezeOnDeath& operator=(FreezeOnDeath&&) = delete;
  ~FreezeOnDeath();

 private:
  Fd process_;
  Fd freeze_;
  Fd stop_;
  std::thread thread_;
};

}  // namespace lifeboat
