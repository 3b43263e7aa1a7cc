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
//
// Both come in two steps, so that nothing is done during the freeze that can be done before it:
//
//   PreparedDump, PreparedRestore   CRIU runs, has looked at the kernel and waits for its request (a dump that is
//                                   armed: has it, and waits for its `pre-dump` notification's answer)
//
// Dropping one of these ends CRIU; no task of the container is involved yet.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cgroup.hpp"
#include "criu_glue/freeze_on_death.hpp"
#include "criu_glue/hide_list.hpp"
#include "criu_glue/smaps_ahead.hpp"
#include "criu_glue/swrk.hpp"

namespace lifeboat {

// A mount that exists on every node and is not CRIU's to recreate: the root image, work directories.
struct ExternalMount {
  std::string mount_point;  // in the container: "/", "/work"
  std::string source;       // on the node
};

// One that was made for a restore and is mounted nowhere yet.
struct NewMount {
  std::string source;  // on the node: an empty directory, where it is mounted for CRIU alone
  Fd root;             // its root directory
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
  std::vector<ExternalMount> mounts;
  // Path of liblifeboat-criu.so: memory can be hidden from CRIU. Empty: CRIU dumps everything.
  std::string hide_library;
  Milliseconds limit{0};      // until the images are complete
};

struct RestoreRequest {
  CriuPaths paths;
  int netns_fd = -1;          // prepared, unplugged
  std::string cgroup;         // directory of the cgroup the tasks are born in
  std::string root;           // empty directory where the root image is bound, privately
  std::vector<ExternalMount> mounts;
  // {NewMount::source, NewMount::root}; to CRIU they come after `mounts`.
  std::vector<std::pair<std::string, int>> new_mounts;
  std::vector<int> files;  // descriptors that PreparedRestore::start() may name; open until prepare() has returned
  // Mounted at `root` instead of the image when the layer is complete. Its mount_point is `root`.
  std::optional<OverlayMount> overlay;
  Milliseconds limit{0};      // until every task is restored
};

// The directories CRIU works in. It opens them as /proc/PID/fd/N of *this* process, so they are
// not passed on, but must stay open until CRIU has its request.
struct CriuDirectories {
  Fd images;
  Fd work;
};

class HeldDump {
 public:
  HeldDump(HeldDump&&) noexcept = default;
  ~HeldDump();
  // The target runs: CRIU kills the tasks here. Waits until it has.
  awaitable<Status> commit() &&;

 private:
  friend class PreparedDump;
  HeldDump(std::unique_ptr<Swrk> swrk, FreezeOnDeath watch)
      : watch_(std::move(watch)), swrk_(std::move(swrk)) {}
  FreezeOnDeath watch_;         // ends last
  std::unique_ptr<Swrk> swrk_;  // null once moved from or answered
};

class PreparedDump {
 public:
  // While the container runs: 10 to 60 ms. `request.init` may change until start().
  static awaitable<Result<PreparedDump>> prepare(DumpRequest request);
  PreparedDump(PreparedDump&&) noexcept = default;
  PreparedDump& operator=(PreparedDump&&) = delete;
  ~PreparedDump();
  // What CRIU is not to see, to be set at any time before start(); null without a library.
  [[nodiscard]] HideList* hidden() { return hidden_.get(); }
  // CRIU gets its request, and begins as far as no task is concerned: 2 ms less of the freeze. `files`: see
  // leave_out(); the anonymous ones must be known already.
  awaitable<Status> arm(Cgroup cgroup, std::vector<CarriedFile> files);
  // These files are not CRIU's to carry; needs a library.
  void leave_out(const std::vector<CarriedFile>& files);
  // These processes are frozen, and CRIU will ask for their mappings: see smaps_ahead.hpp. Does nothing
  // without a library.
  void read_ahead(const std::vector<pid_t>& pids, SmapsCache& cache);
  // Once armed, and the container's cgroup is frozen: CRIU thaws it to dump; returns, with the cgroup frozen
  // again, when CRIU holds finished images. On failure the tasks are as before.
  awaitable<Result<HeldDump>> start(Cgroup cgroup) &&;

 private:
  PreparedDump(DumpRequest request, CriuDirectories directories, std::unique_ptr<HideList> hidden,
               Swrk swrk)
      : request_(std::move(request)),
        directories_(std::move(directories)),
        hidden_(std::move(hidden)),
        swrk_(std::make_unique<Swrk>(std::move(swrk))) {}
  DumpRequest request_;
  CriuDirectories directories_;
  std::unique_ptr<HideList> hidden_;
  std::unique_ptr<SmapsAhead> smaps_;  // ends before the list
  std::unique_ptr<Swrk> swrk_;  // null once started
};

// The tasks are held twice: by CRIU, and by their cgroup, which is frozen before CRIU lets go. So
// they cannot run if this daemon or CRIU dies here; only a thaw of the cgroup starts them.
class HeldRestore {
 public:
  HeldRestore(HeldRestore&&) noexcept = default;
  ~HeldRestore();
  [[nodiscard]] pid_t init_pid() const { return init_.pid(); }
  // Ends CRIU's hold: the tasks run if their cgroup is thawed. Returns once they are let go; their
  // init is our child.
  awaitable<Result<Process>> release() &&;

 private:
  friend class PreparedRestore;
  HeldRestore(std::unique_ptr<Swrk> swrk, Process init)
      : swrk_(std::move(swrk)), init_(std::move(init)) {}
  std::unique_ptr<Swrk> swrk_;  // null once moved from or answered
  Process init_;
};

// A file that CRIU was told to leave to us, and what it is here.
struct GivenFile {
  std::string name;       // external_file_name(), at the source
  std::size_t index = 0;  // in RestoreRequest::files
};

// Where memory comes from in a restore.
enum class RestoreMemory {
  kImages,  // all of it from the images
  kPager,   // what CRIU marked as lazy, later, from who listens at lazy-pages.socket beside the log
};

class PreparedRestore {
 public:
  // Before there are images (the directory must exist). From here on CRIU is member of the cgroup,
  // until it has made the container's init: a kill of the cgroup ends it, and nobody may freeze the
  // cgroup before start() has returned, which does it.
  static awaitable<Result<PreparedRestore>> prepare(RestoreRequest request);
  PreparedRestore(PreparedRestore&&) noexcept = default;
  PreparedRestore& operator=(PreparedRestore&&) = delete;
  ~PreparedRestore();
  // The images are complete. On failure the caller kills the cgroup, as after any failed arrival.
  // `pager_lives` (with kPager): asked now and then; its error ends the restore, for which CRIU would
  // wait in vain.
  awaitable<Result<HeldRestore>> start(RestoreMemory memory, std::vector<GivenFile> files,
                                       std::function<Status()> pager_lives) &&;

 private:
  PreparedRestore(RestoreRequest request, CriuDirectories directories, Swrk swrk)
      : request_(std::move(request)),
        directories_(std::move(directories)),
        swrk_(std::make_unique<Swrk>(std::move(swrk))) {}
  RestoreRequest request_;
  CriuDirectories directories_;
  std::unique_ptr<Swrk> swrk_;  // null once started
};

}  // namespace lifeboat
