// cgroup.hpp - one container's cgroup (v2): where its processes are frozen, counted and ended.
//
// The cgroup2 file system is found once: /sys/fs/cgroup on current systems, /sys/fs/cgroup/unified
// on hybrid ones (there only freeze and kill exist, limits are not enforced).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

class Cgroup {
 public:
  // Where cgroup2 is mounted; kUnavailable with advice when it is not.
  static Result<std::string> mount_point();

  // Makes `parent`/`name` (both relative to the mount point) and what is missing above it.
  static Result<Cgroup> create(const std::string& parent, const std::string& name);
  // One that exists already (a container adopted after a restart).
  static Result<Cgroup> open(const std::string& parent, const std::string& name);
  // The one this process is in.
  static Result<Cgroup> own();
  // Names of the cgroups below `parent`.
  static std::vector<std::string> children(const std::string& parent);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string procs_file() const { return path_ + "/cgroup.procs"; }

  // Best effort: false where the memory controller is not in cgroup2 (hybrid systems).
  bool limit_memory(std::uint64_t bytes) const;

  // Freezes every task and waits until the kernel says so, at most `limit` (kTimeout names the
  // tasks that would not stop; the cgroup is thawed again).
  awaitable<Status> freeze(Milliseconds limit) const;
  // The same, blocking its thread: for a freeze of less than a millisecond.
  [[nodiscard]] Status freeze_now(Milliseconds limit) const;
  // The same, where it matters little when: each task must run once to stop, and on an overloaded machine one may
  // wait longer for that than the others should stand still. They go on for a while before the next attempt.
  [[nodiscard]] Status freeze_briefly() const;
  // Says so and does not wait: for tasks that stand still anyway.
  [[nodiscard]] Status hold() const { return set_frozen(true); }
  // Needs nothing that could have run out: often only this is between a container and its going on.
  [[nodiscard]] Status thaw() const;

  [[nodiscard]] std::vector<pid_t> pids() const;
  // SIGKILL to all; returns at once.
  [[nodiscard]] Status kill() const;
  // Kills what is left, waits for it (at most `limit`) and removes the directory. Blocks.
  [[nodiscard]] Status remove(Milliseconds limit) const;

 private:
  explicit Cgroup(std::string path) : path_(std::move(path)) {}
  Status open_control();
  [[nodiscard]] Status set_frozen(bool frozen) const;
  [[nodiscard]] bool event_is(const char* key, char value) const;
  [[nodiscard]] bool frozen_soon() const;
  [[nodiscard]] Status not_frozen(Milliseconds limit) const;

  std::string path_;
  std::shared_ptr<Fd> control_;  // cgroup.freeze; null: not of own()
};

}  // namespace lifeboat
