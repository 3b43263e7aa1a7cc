// preflight_memory.hpp - whether the processes of a container use their memory in ways in which it cannot be
// carried.
#pragma once

#include <sys/types.h>

#include <vector>

#include "base/result.hpp"

namespace lifeboat {

// kRefused, naming the process and the remedy, when one of them has an io_uring (the kernel writes to its
// buffers without a trace, and CRIU cannot carry it) or a userfaultfd (its mappings are its owner's to
// fill). Reads /proc/PID/fd; a process that has ended is passed over.
Status check_memory_use(const std::vector<pid_t>& pids);

}  // namespace lifeboat
