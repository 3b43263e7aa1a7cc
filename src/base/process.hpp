// process.hpp - child processes: started with exactly the descriptors, namespaces and cgroup they
// need, watched through a pidfd, never left behind.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/asio.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

// How a process ended. `code` is the exit status, or 128 + signal number.
struct ExitStatus {
  int code = 0;
  bool signalled = false;
};

// A process and its pidfd. Does not end the process when destroyed: see kill_and_reap().
class Process {
 public:
  Process() = default;
  Process(pid_t pid, Fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

  // Any running process, child or not.
  static Result<Process> open(pid_t pid);

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }
  [[nodiscard]] bool valid() const { return pidfd_.valid(); }
  [[nodiscard]] bool running() const;

  void signal(int number) const;
  // To the process group of this name: for one started in a session of its own.
  void signal_group(int number) const;
  // How a child has ended, once. nullopt: it runs, or is no child of this process.
  [[nodiscard]] std::optional<ExitStatus> reap() const;
  // Ends and reaps a child; blocks until it is gone, at most 2 s. No-op when not valid.
  void kill_and_reap();

  // Waits until the process has ended. nullopt when it was neither our child nor the starter's, so its
  // status is unknown.
  awaitable<std::optional<ExitStatus>> wait();
  // As wait(), but gives up after `limit`: kTimeout.
  awaitable<Result<std::optional<ExitStatus>>> wait_for(Milliseconds limit);

 private:
  pid_t pid_ = -1;
  Fd pidfd_;
};

// Where an overlay file system is to be mounted: reads from `lower`, writes to `upper`; `work` is an
// empty directory beside `upper`.
struct OverlayMount {
  std::string lower;
  std::string upper;
  std::string work;
  std::string mount_point;
};

// What mount(2) is to be told about it. Nothing of it depends on the node but the paths: no inode
// index, no metadata-only copies, no redirected directories.
std::string overlay_options(const OverlayMount& overlay);

struct SpawnOptions {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> env;  // added to ours
  std::vector<std::pair<int, int>> fds;                  // {ours, number in the child}
  int stdin_fd = -1, stdout_fd = -1, stderr_fd = -1;     // -1: /dev/null
  int netns_fd = -1;                                     // setns before exec
  std::string cgroup;           // directory of the cgroup (v2) to be born in; empty: this process's
  bool new_session = true;      // setsid
  bool keep_priority = false;   // the daemon's own scheduling priority; else the ordinary one
  bool private_mounts = false;  // own mount namespace; what is mounted there dies with it
  // {source, mount point}: bind mounts made in that private mount namespace.
  std::vector<std::pair<std::string, std::string>> bind_mounts;
  std::optional<OverlayMount> overlay;  // the same
};

// Forks and execs. An error in the child before exec comes back as the error of this call.
Result<Process> spawn(const SpawnOptions& options);
// The same for a daemon: if it has a starter (starter.hpp), that one does it, and what it needs the time for
// holds up nothing else here. kTimeout, kUnavailable: it gave no answer, and does not start it.
awaitable<Result<Process>> start(SpawnOptions options);

// Puts this process before ordinary ones: while a container is frozen every wait for a CPU that its
// neighbours keep busy is downtime. Best effort.
void raise_priority();
// The calling thread has the ordinary priority from now on, or soon: for much work that nothing stands still for.
// Best effort.
void lower_priority();

// Of the calling thread, since it began.
struct ThreadTime {
  double ran_s = 0;     // on a processor
  double waited_s = 0;  // ready, for one
};
// Zeros where the kernel does not tell (CONFIG_SCHED_INFO).
ThreadTime thread_time();

// Runs a tool to its end and returns its stdout+stderr (at most 1 MiB) and how it ended. Not for
// tools that leave children behind: those keep the output open.
struct ToolOutput {
  ExitStatus status;
  std::string text;
};
awaitable<Result<ToolOutput>> run_tool(SpawnOptions options, Milliseconds limit);

// Runs `work` in the mount namespace of another process, whose root is then its root. On a thread of
// its own: the caller stays where it is.
Status in_mount_namespace(pid_t pid, const std::function<Status()>& work);
// Mounts it in the mount namespace of another process, which must not be shared with this one.
Status mount_overlay_in(pid_t pid, const OverlayMount& overlay);
// Mounts a file system that fsmount() has made, and that is mounted nowhere, in such a namespace.
Status attach_mount_in(pid_t pid, int root_fd, const std::string& mount_point);

// True while another process (CRIU, a debugger) traces this one.
bool is_traced(pid_t pid);

// As a subreaper we inherit processes that nobody here waits for. Reaps those that have been
// zombies since the last call; whoever waits for a child of its own does so much sooner.
void reap_strangers();

// Memory of a process that is there, in bytes; 0 when there is no such process.
std::uint64_t resident_bytes(pid_t pid);

// Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat): with the pid it
// names a process for good. 0 when there is no such process.
std::uint64_t process_start_time(pid_t pid);

}  // namespace lifeboat
