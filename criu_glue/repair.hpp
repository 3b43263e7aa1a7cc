// repair.hpp - TCP sockets that a CRIU which was killed has left in repair mode.
//
// In repair mode a socket is deaf and dumb: neither end hears of it, for ever. CRIU takes its
// sockets out of it when it fails; if it is killed in the middle of a dump nobody does.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <vector>

namespace lifeboat {

// Takes every TCP socket of these processes out of repair mode. They must be stopped (a frozen
// cgroup will do). Returns how many were in it. Best effort: processes that are gone are skipped.
std::size_t end_repair_mode(const std::vector<pid_t>& pids);

}  // namespace lifeboat
