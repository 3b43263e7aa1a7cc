// inject.hpp - makes a userfaultfd inside another process, without that process's doing.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

// Stops the process for some tenths of a millisecond, lets one thread of it run userfaultfd() by
// way of the `syscall` instruction in its vDSO, takes the descriptor over and closes it there. The
// thread's own system call, if it was in one, is restarted as after any signal without handler.
// No code of the process is changed, and no seccomp filter of it sees the call. Done by another
// process, which finishes even if this one is killed meanwhile: the program of use_injector(), or a fork.
//
// A thread that cannot be stopped within a second (it waits in the kernel), that another process traces
// or that runs 32-bit code is left alone; kUnavailable or kNotFound, with the reason, when that is so of
// all of them.
Result<Fd> inject_userfaultfd(pid_t pid);

// From now on lifeboat-inject, at this path, does it, started as containers are. The kernel lets nobody who
// has a seccomp filter himself, as a service has, suspend that of another process.
void use_injector(std::string program);

// The work of lifeboat-inject, which answers over this descriptor.
inline constexpr int kInjectorSocket = 3;
void answer_injection(int socket, pid_t pid);

}  // namespace lifeboat
