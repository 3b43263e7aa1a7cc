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
//   {op: "ordinary", thread}          ->  {}: that thread of the caller has the ordinary priority
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

// From now on processes of this one are started by the starter that listens at `socket`: to be called once,
// before anything else is started. kUnavailable when none does.
Status use_starter(std::string socket);
[[nodiscard]] bool has_starter();

// What the starter has answered.
struct StarterAnswer {
  json::object body;
  Fd fd;  // that came along
};

// A request that was sent to the starter, and its answer, which nobody has to wait for.
class StarterCall {
 public:
  static Result<StarterCall> send(const json::object& request, const std::vector<int>& fds, Milliseconds limit);
  // Once, the answer, kUnavailable or kTimeout; nothing before.
  std::optional<Result<StarterAnswer>> poll();
  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  StarterCall(Fd socket, Milliseconds limit)
      : socket_(std::move(socket)), limit_(limit), ends_(std::chrono::steady_clock::now() + limit) {}

  Fd socket_;
  Milliseconds limit_;
  std::chrono::steady_clock::time_point ends_;
};

// A process that is being started: by the starter, or at once here if there is none. Destroyed before
// poll() has told of it, it is not started, or ended again.
class ProcessStart {
 public:
  // Longer than any start takes, an overlay over a slow shared file system included.
  static constexpr Milliseconds kLimit{20'000};

  explicit ProcessStart(const SpawnOptions& options);
  ProcessStart(const ProcessStart&) = delete;
  ProcessStart& operator=(const ProcessStart&) = delete;
  ~ProcessStart();
  // Once, the process, or why there is none; nothing before that is known.
  std::optional<Result<Process>> poll();
  // Readable when poll() has something to tell; -1: it has.
  [[nodiscard]] int fd() const { return call_ ? call_->fd() : -1; }

 private:
  std::string program_;
  std::optional<Result<Process>> known_;
  std::optional<StarterCall> call_;
};

// How a process has ended that does not run any more.
class ProcessEnd {
 public:
  static constexpr Milliseconds kLimit{1000};

  explicit ProcessEnd(const Process& process);
  // Whether status() is known by now.
  bool poll();
  // nullopt for one that was neither our child nor the starter's.
  [[nodiscard]] std::optional<ExitStatus> status() const { return status_; }
  [[nodiscard]] int fd() const { return call_ ? call_->fd() : -1; }

 private:
  std::optional<ExitStatus> status_;
  std::optional<StarterCall> call_;
};

inline constexpr std::size_t kStarterMessageBytesMax = 128 * 1024;

// For lifeboat-starter: one request and its answer.
json::object to_json(const SpawnOptions& options, std::vector<int>& fds);
// Descriptors are those of `fds`, which must outlive the options.
Result<SpawnOptions> spawn_options_from(const json::object& request, const std::vector<Fd>& fds);

}  // namespace lifeboat
