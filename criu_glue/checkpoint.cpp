#include "criu_glue/checkpoint.hpp"

#include <fcntl.h>
#include <signal.h>

#include <filesystem>
#include <future>

#include "base/file.hpp"
#include "criu_glue/diagnosis.hpp"
#include "criu_glue/hide_pages.h"
#include "criu_glue/rpc.pb.h"

namespace lifeboat {

namespace fs = std::filesystem;

namespace {

// Shared memory of MPI (segments of MPICH, windows of MPI-3) is in files without a name: "ghosts", which CRIU
// refuses above a limit. This is the largest that it knows.
constexpr std::uint32_t kGhostLimitBytes = UINT32_MAX;
constexpr int kLogLevel = 2;  // errors and warnings; more would cost time in the window
constexpr Milliseconds kWarmUpLimit{10'000};
constexpr Milliseconds kAbortLimit{10'000};
constexpr Milliseconds kResumeLimit{30'000};
constexpr int kFirstFile = 16;  // number of RestoreRequest::files in CRIU

Result<CriuDirectories> open_directories(const CriuPaths& paths) {
  CriuDirectories directories;
  directories.images = Fd(::open(paths.images.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directories.images) return fail_errno("open " + paths.images);
  const std::string work = fs::path(paths.log).parent_path();
  directories.work = Fd(::open(work.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directories.work) return fail_errno("open " + work);
  return directories;
}

SpawnOptions worker_options(int netns_fd) {
  SpawnOptions options;
  options.netns_fd = netns_fd;
  options.private_mounts = true;
  return options;
}

// What both requests share.
criu::Request base_request(criu::RequestType type, const CriuPaths& paths,
                           const CriuDirectories& directories) {
  criu::Request request;
  request.set_type(type);
  criu::Options& opts = *request.mutable_opts();
  opts.set_images_dir_fd(directories.images.get());
  opts.set_work_dir_fd(directories.work.get());
  opts.set_log_file(fs::path(paths.log).filename());
  opts.set_log_level(kLogLevel);
  opts.set_notify_scripts(true);
  opts.set_tcp_established(true);
  opts.set_file_locks(true);
  opts.set_link_remap(true);
  opts.set_ghost_limit(kGhostLimitBytes);
  opts.set_manage_cgroups_mode(criu::IGNORE);  // the cgroup is ours
  opts.set_network_lock(criu::SKIP);           // the unplugged port is the lock
  return request;
}

std::string external_name(std::size_t index) { return "lifeboat" + std::to_string(index); }

// What a restore has shown before its end.
struct Arrived {
  pid_t init = -1;
  // CRIU on its way out of the container's cgroup. The kernel lets that wait for all CPUs, 7-18 ms,
  // if no process has changed its cgroup just before; meanwhile CRIU goes on.
  std::future<Status> left_cgroup;
};

// Reads messages, answers notifications with "go on", until the notification `script` is there
// (unanswered).
awaitable<Status> advance_to(Swrk& swrk, const std::string& script, const CriuPaths& paths,
                             Milliseconds limit, Arrived* arrived) {
  const auto deadline = SteadyClock::now() + limit;
  for (;;) {
    const auto left = std::chrono::duration_cast<Milliseconds>(deadline - SteadyClock::now());
    auto message = co_await swrk.receive(std::max(left, Milliseconds(1)));
    if (!message) co_return tl::unexpected<Error>(explain_criu(message.error(), paths.log));
    if (message->type() != criu::NOTIFY) {
      std::string text = message->cr_errmsg();
      if (message->success()) text = "criu finished without asking for '" + script + "'";
      co_return tl::unexpected<Error>(explain_criu(Error(Errc::kSystem, text), paths.log));
    }
    const criu::Notify& notify = message->notify();
    if (notify.script() == script) co_return Status{};
    CO_CHECK_OK(swrk.answer(true));
    if (arrived != nullptr && notify.script() == "setup-namespaces") {
      // The container's init exists, in its cgroup, and all other tasks will be children of it.
      arrived->init = notify.pid();
      arrived->left_cgroup = std::async(std::launch::async, &Swrk::move_to_own_cgroup, &swrk);
    }
  }
}

// Reads until CRIU's response, answering every notification with "go on".
awaitable<Result<criu::Response>> finish(Swrk& swrk, Milliseconds limit) {
  CO_CHECK_OK(swrk.answer(true));
  for (;;) {
    CO_TRY(criu::Response message, co_await swrk.receive(limit));
    if (message.type() != criu::NOTIFY) co_return message;
    CO_CHECK_OK(swrk.answer(true));
  }
}

}  // namespace

awaitable<Result<PreparedDump>> PreparedDump::prepare(DumpRequest wanted) {
  CO_TRY(CriuDirectories directories, open_directories(wanted.paths));
  SpawnOptions options = worker_options(wanted.netns_fd);
  std::unique_ptr<HideList> hidden;
  if (!wanted.hide_library.empty()) {
    CO_TRY(HideList list, HideList::create());
    hidden = std::make_unique<HideList>(std::move(list));
    constexpr int kListFd = 4;
    options.fds.emplace_back(hidden->fd(), kListFd);
    options.env.emplace_back("LD_PRELOAD", wanted.hide_library);
    options.env.emplace_back(LIFEBOAT_HIDE_VARIABLE, std::to_string(kListFd));
  }
  CO_TRY(Swrk swrk, co_await Swrk::start(wanted.paths.criu, std::move(options)));
  CO_CHECK_OK(co_await swrk.warm_up(kWarmUpLimit));
  if (hidden && hidden->counters().loads == 0) {
    co_return fail(Errc::kUnavailable, wanted.paths.criu + " did not load " + wanted.hide_library +
                                           "; is it missing, or criu linked statically?");
  }
  co_return PreparedDump(std::move(wanted), std::move(directories), std::move(hidden),
                         std::move(swrk));
}

PreparedDump::~PreparedDump() = default;

void PreparedDump::read_ahead(const std::vector<pid_t>& pids, SmapsCache& cache) {
  if (hidden_) smaps_ = std::make_unique<SmapsAhead>(*hidden_, cache, pids);
}

void PreparedDump::leave_out(const std::vector<CarriedFile>& files) { hidden_->set_files(files); }

awaitable<Status> PreparedDump::arm(Cgroup cgroup, std::vector<CarriedFile> files) {
  criu::Request request = base_request(criu::DUMP, request_.paths, directories_);
  criu::Options& opts = *request.mutable_opts();
  opts.set_pid(request_.init);
  opts.set_freeze_cgroup(cgroup.path());
  opts.set_timeout(static_cast<std::uint32_t>(request_.limit.count() / 1000 + 1));
  for (std::size_t i = 0; i < request_.mounts.size(); ++i) {
    opts.add_external("mnt[" + request_.mounts[i].mount_point + "]:" + external_name(i));
  }
  for (const CarriedFile& file : files) {
    if (file.anonymous) opts.add_external(file.path);
  }
  CO_CHECK_OK(swrk_->send(request));
  co_return co_await advance_to(*swrk_, "pre-dump", request_.paths, kWarmUpLimit, nullptr);
}

awaitable<Result<HeldDump>> PreparedDump::start(Cgroup cgroup) && {
  CO_TRY(FreezeOnDeath watch, FreezeOnDeath::watch(swrk_->pid(), cgroup));
  CO_CHECK_OK(swrk_->answer(true));
  HeldDump held(std::move(swrk_), std::move(watch));
  CO_CHECK_OK(
      co_await advance_to(*held.swrk_, "post-dump", request_.paths, request_.limit, nullptr));
  // Should CRIU be killed from here on, its tasks still stand.
  CO_CHECK_OK(cgroup.hold());
  co_return held;
}

HeldDump::~HeldDump() {
  if (!swrk_) return;
  // `false` at post-dump: CRIU takes sockets out of repair mode and lets the tasks go. Killing
  // CRIU instead would leave every TCP connection in repair mode, that is: dead.
  (void)swrk_->answer(false);
  swrk_->drain_blocking(false, kAbortLimit);
}

awaitable<Status> HeldDump::commit() && {
  auto response = co_await finish(*swrk_, kResumeLimit);
  swrk_.reset();
  if (!response) co_return tl::unexpected<Error>(response.error());
  co_return Status{};
}

awaitable<Result<PreparedRestore>> PreparedRestore::prepare(RestoreRequest wanted) {
  CO_TRY(CriuDirectories directories, open_directories(wanted.paths));
  SpawnOptions options = worker_options(wanted.netns_fd);
  options.cgroup = wanted.cgroup;
  for (std::size_t i = 0; i < wanted.files.size(); ++i) {
    options.fds.emplace_back(wanted.files[i], kFirstFile + static_cast<int>(i));
  }
  // An overlay is mounted when nobody changes its layer any more.
  if (!wanted.overlay) options.bind_mounts.emplace_back(wanted.mounts.front().source, wanted.root);
  CO_TRY(Swrk swrk, co_await Swrk::start(wanted.paths.criu, std::move(options)));
  CO_CHECK_OK(co_await swrk.warm_up(kWarmUpLimit));
  for (const auto& [source, root] : wanted.new_mounts) {
    CO_CHECK_OK(attach_mount_in(swrk.pid(), root, source));
    wanted.mounts.push_back({"", source});
  }
  co_return PreparedRestore(std::move(wanted), std::move(directories), std::move(swrk));
}

PreparedRestore::~PreparedRestore() = default;

awaitable<Result<HeldRestore>> PreparedRestore::start(RestoreMemory memory, std::vector<GivenFile> files,
                                                      std::function<Status()> pager_lives) && {
  criu::Request request = base_request(criu::RESTORE, request_.paths, directories_);
  criu::Options& opts = *request.mutable_opts();
  opts.set_root(request_.root);
  opts.set_rst_sibling(true);
  if (memory == RestoreMemory::kPager) opts.set_lazy_pages(true);
  for (std::size_t i = 0; i < request_.mounts.size(); ++i) {
    const std::string source = i == 0 ? request_.root : request_.mounts[i].source;
    opts.add_external("mnt[" + external_name(i) + "]:" + source);
  }
  for (const GivenFile& file : files) {
    criu::InheritFd& given = *opts.add_inherit_fd();
    given.set_key(file.name);
    given.set_fd(kFirstFile + static_cast<int>(file.index));
  }
  std::unique_ptr<Swrk> swrk = std::move(swrk_);
  // Also while it lets go of the tasks: without a pager the guard ends them, and CRIU waits for dead ones.
  if (memory == RestoreMemory::kPager) swrk->depends_on(std::move(pager_lives));
  if (request_.overlay) CO_CHECK_OK(mount_overlay_in(swrk->pid(), *request_.overlay));
  CO_CHECK_OK(swrk->send(request));
  Arrived arrived;  // ends before `swrk`, of which it makes use
  CO_CHECK_OK(co_await advance_to(*swrk, "pre-resume", request_.paths, request_.limit, &arrived));
  auto init = Process::open(arrived.init);
  if (!init) co_return tl::unexpected<Error>(init.error().context("criu restored no init"));
  // CRIU has left the cgroup its tasks were born in; then the cgroup freezes (tasks stopped by
  // ptrace count as frozen).
  const Status left = arrived.left_cgroup.get();
  HeldRestore held(std::move(swrk), std::move(*init));
  CO_CHECK_OK(left);
  CO_CHECK_OK(write_value(request_.cgroup + "/cgroup.freeze", "1"));
  co_return held;
}

HeldRestore::~HeldRestore() {
  if (!swrk_) return;
  // CRIU only logs a failure of pre-resume and lets the clone run: so the clone ends first, and
  // its pid namespace with it. CRIU traces it: only once CRIU is gone can it be reaped.
  init_.signal(SIGKILL);
  swrk_->kill();
  init_.kill_and_reap();
}

awaitable<Result<Process>> HeldRestore::release() && {
  // From here on dropping this object must not end the tasks: they are the only copy. If CRIU ends
  // now, they run.
  const std::unique_ptr<Swrk> swrk = std::move(swrk_);
  CO_CHECK_OK(swrk->answer(true));
  // `post-resume`, or the response: either way CRIU has detached from all tasks.
  auto message = co_await swrk->receive(kResumeLimit);
  const bool failed = message && message->type() != criu::NOTIFY && !message->success();
  if (!message) co_return tl::unexpected<Error>(message.error());
  if (failed) co_return fail(Errc::kSystem, "criu failed after the commit: " + message->cr_errmsg());
  co_return std::move(init_);
}

}  // namespace lifeboat
