// checkpoint.hpp - a container's processes, held by CRIU at the two points where a migration can
// still be decided either way.
//
//   HeldDump     at the source: images complete, every task stopped, nothing killed yet
//                (CRIU's `post-dump` notification, unanswered)
//   HeldRestore  at the target: every task restored, none has run
//                (CRIU's `pre-resume` notification, unanswered)
//
// Dropping either undoes it, synchronously: the dumped tasks live on (in their frozen cgroup), the
// restored ones are killed. That is the rollback of a migration.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "criu_glue/swrk.hpp"

namespace lifeboat {

// A mount that exists on every node and is not CRIU's to recreate: the root image, work directories.
struct ExternalMount {
  std::string mount_point;  // in the container: "/", "/work"
  std::string source;       // on the node
};

struct CriuPaths {
  std::string criu;          // the program
  std::string images;        // directory of the images (tmpfs)
  std::string log;           // full path of the log file; its directory must exist
};

struct DumpRequest {
  CriuPaths paths;
  pid_t init = -1;            // the container's pid 1, as seen here
  int netns_fd = -1;          // the container's network namespace
  std::string freeze_cgroup;  // frozen already; CRIU thaws and freezes it itself
  std::vector<ExternalMount> mounts;
  Milliseconds limit{0};      // until the images are complete
};

struct RestoreRequest {
  CriuPaths paths;
  int netns_fd = -1;          // prepared, unplugged
  std::string cgroup;         // directory of the cgroup the tasks are born in
  std::string root;           // empty directory where the root image is bound, privately
  std::vector<ExternalMount> mounts;
  Milliseconds limit{0};      // until every task is restored
};

class HeldDump {
 public:
  // Dumps; returns when CRIU holds the finished images. On failure the tasks are as before.
  static awaitable<Result<HeldDump>> start(DumpRequest request);
  HeldDump(HeldDump&&) noexcept = default;
  ~HeldDump();
  // The target runs: CRIU kills the tasks here. Waits until it has.
  awaitable<Status> commit() &&;

 private:
  explicit HeldDump(Swrk swrk) : swrk_(std::make_unique<Swrk>(std::move(swrk))) {}
  std::unique_ptr<Swrk> swrk_;  // null once moved from or answered
};

// The tasks are held twice: by CRIU, and by their cgroup, which is frozen before CRIU lets go. So
// they cannot run if this daemon or CRIU dies here; only a thaw of the cgroup starts them.
class HeldRestore {
 public:
  static awaitable<Result<HeldRestore>> start(RestoreRequest request);
  HeldRestore(HeldRestore&&) noexcept = default;
  ~HeldRestore();
  [[nodiscard]] pid_t init_pid() const { return init_.pid(); }
  // Ends CRIU's hold: the tasks run if their cgroup is thawed. Returns once they are let go; their
  // init is our child.
  awaitable<Result<Process>> release() &&;

 private:
  HeldRestore(Swrk swrk, Process init) : swrk_(std::make_unique<Swrk>(std::move(swrk))), init_(std::move(init)) {}
  std::unique_ptr<Swrk> swrk_;  // null once moved from or answered
  Process init_;
};

}  // namespace lifeboat
