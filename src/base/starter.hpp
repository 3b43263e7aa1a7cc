// starter.hpp - processes that another one, lifeboat-starter, starts for the daemon.
//
// Containers, CRIU and pagers inherit what limits whoever starts them: a system call filter, fewer
// capabilities, another view of the file systems. CRIU needs them all, and so do containers; a daemon
// that listens to a network should have none to spare. So the daemon's unit is restricted, and what it
// starts is started by a small process without a network that is not. They outlive the daemon in that
// other unit's cgroup, and how they ended is still known when the next daemon asks.
//
// One request for each connection (SOCK_SEQPACKET, JSON, descriptors beside it), answered by one message:
//   {op: "spawn", argv, env, ...}     ->  {pid}, with its pidfd   or {error, code}
//   {op: "status", pid}               ->  {code, signalled}       or {} for no child of it, or one that runs
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/json.hpp"
#include "base/process.hpp"
#include "base/result.hpp"

namespace lifeboat {

// From now on spawn() of this process asks the starter that listens at `socket`: to be called once, before
// anything else is started. kUnavailable when none does.
Status use_starter(std::string socket);
[[nodiscard]] bool has_starter();

// spawn(), there. Blocks for as long as it takes; kUnavailable, kTimeout: the starter gave no answer, and
// does not start it.
Result<Process> start_elsewhere(const SpawnOptions& options);
// How a process that the starter has started or inherited has ended; nullopt when that is not known.
std::optional<ExitStatus> status_elsewhere(pid_t pid);

inline constexpr std::size_t kStarterMessageBytesMax = 128 * 1024;

// For lifeboat-starter: one request and its answer.
json::object to_json(const SpawnOptions& options, std::vector<int>& fds);
// Descriptors are those of `fds`, which must outlive the options.
Result<SpawnOptions> spawn_options_from(const json::object& request, const std::vector<Fd>& fds);

}  // namespace lifeboat
