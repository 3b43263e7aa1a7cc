#include "base/process.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "base/file.hpp"

namespace lifeboat {
namespace {

int pidfd_open(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

std::optional<ExitStatus> reap(int pidfd) {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG) != 0) {
    return std::nullopt;
  }
  if (info.si_pid == 0) return std::nullopt;
  if (info.si_code == CLD_EXITED) return ExitStatus{info.si_status, false};
  return ExitStatus{128 + info.si_status, true};
}

// What the child could not do before exec: step number and errno go through the error pipe.
enum Step : int { kSession, kNetns, kMountns, kBind, kOverlay, kFds, kExec };
constexpr const char* kStepNames[] = {"setsid",     "enter the network namespace",
                                      "unshare mounts", "bind mount", "mount the overlay",
                                      "pass descriptors", "exec"};

[[noreturn]] void child_fails(int error_pipe, Step step) {
  const int report[2] = {step, errno};
  (void)!::write(error_pipe, report, sizeof report);
  ::_exit(127);
}

// Everything the child needs, prepared before it is there: it makes system calls only. It begins with what
// other threads of this process left half done, such as a lock of malloc().
struct Prepared {
  std::vector<char*> argv;
  std::vector<std::string> env_text;
  std::vector<char*> env;
  std::string overlay;
  std::vector<std::pair<int, int>> fds;  // ours, and the number the child knows it by
  Fd cgroup;
  Fd null;
};

int mount_overlay(const OverlayMount& overlay, const std::string& options) {
  const char* at = overlay.mount_point.c_str();
  if (::mount("overlay", at, "overlay", MS_NOSUID | MS_NODEV, options.c_str()) != 0) return -1;
  return ::mount("none", at, nullptr, MS_PRIVATE, nullptr);
}

void enter_namespaces(const SpawnOptions& options, const Prepared& prepared, int error_pipe) {
  if (options.new_session && ::setsid() < 0) child_fails(error_pipe, kSession);
  if (options.netns_fd >= 0 && ::setns(options.netns_fd, CLONE_NEWNET) != 0) {
    child_fails(error_pipe, kNetns);
  }
  if (options.private_mounts) {
    if (::unshare(CLONE_NEWNS) != 0) child_fails(error_pipe, kMountns);
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      child_fails(error_pipe, kMountns);
    }
  }
  for (const auto& [source, target] : options.bind_mounts) {
    if (::mount(source.c_str(), target.c_str(), nullptr, MS_BIND, nullptr) != 0) {
      child_fails(error_pipe, kBind);
    }
    if (::mount("none", target.c_str(), nullptr, MS_PRIVATE, nullptr) != 0) {
      child_fails(error_pipe, kBind);
    }
  }
  if (options.overlay && mount_overlay(*options.overlay, prepared.overlay) != 0) {
    child_fails(error_pipe, kOverlay);
  }
}

[[noreturn]] void run_child(const SpawnOptions& options, Prepared& prepared, int error_pipe) {
  // Signals: default action, nothing blocked.
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int number : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);

  if (!options.keep_priority) ::setpriority(PRIO_PROCESS, 0, 0);
  enter_namespaces(options, prepared, error_pipe);

  // Move everything out of the way first, so that no dup2 overwrites a descriptor still needed.
  constexpr int kHigh = 200;
  const int high_pipe = ::fcntl(error_pipe, F_DUPFD_CLOEXEC, kHigh);
  if (high_pipe < 0) {
    if (errno == EINVAL) errno = EMFILE;  // RLIMIT_NOFILE is below kHigh
    child_fails(error_pipe, kFds);
  }
  for (auto& [ours, number] : prepared.fds) {
    ours = ::fcntl(ours, F_DUPFD_CLOEXEC, kHigh);
    if (ours < 0) child_fails(high_pipe, kFds);
  }
  // Nothing else passes, whoever opened it without close-on-exec.
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  for (const auto& [ours, number] : prepared.fds) {
    if (::dup2(ours, number) < 0) child_fails(high_pipe, kFds);
  }
  ::execvpe(prepared.argv[0], prepared.argv.data(), prepared.env.data());
  child_fails(high_pipe, kExec);
}

Result<Prepared> prepare(const SpawnOptions& options) {
  Prepared prepared;
  for (const std::string& arg : options.argv) prepared.argv.push_back(const_cast<char*>(arg.c_str()));
  prepared.argv.push_back(nullptr);
  for (char** entry = environ; *entry != nullptr; ++entry) prepared.env_text.emplace_back(*entry);
  for (const auto& [key, value] : options.env) {
    std::erase_if(prepared.env_text, [&](const std::string& e) { return e.rfind(key + "=", 0) == 0; });
    prepared.env_text.push_back(key + "=" + value);
  }
  for (std::string& entry : prepared.env_text) prepared.env.push_back(entry.data());
  prepared.env.push_back(nullptr);
  if (options.overlay) prepared.overlay = overlay_options(*options.overlay);
  if (!options.cgroup.empty()) {
    prepared.cgroup = Fd(::open(options.cgroup.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!prepared.cgroup) return fail_errno("open " + options.cgroup);
  }
  prepared.null = Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!prepared.null) return fail_errno("open /dev/null");
  prepared.fds = options.fds;
  const int standard[3] = {options.stdin_fd, options.stdout_fd, options.stderr_fd};
  for (int number = 0; number < 3; ++number) {
    prepared.fds.emplace_back(standard[number] >= 0 ? standard[number] : prepared.null.get(), number);
  }
  return prepared;
}

// fork(), into a cgroup: to enter one later means to wait for all processors, 7 to 18 ms. The child's pid;
// 0 in the child.
pid_t fork_into(const Fd& cgroup, Fd& pidfd) {
  int fd = -1;
  clone_args args{};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&fd);
  args.exit_signal = SIGCHLD;
  if (cgroup) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(cgroup.get());
  }
  const auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof args));
  if (pid > 0) pidfd = Fd(fd);
  return pid;
}

}  // namespace

std::string overlay_options(const OverlayMount& overlay) {
  const auto escaped = [](const std::string& path) {
    std::string out;
    for (const char c : path) {
      if (c == '\\' || c == ':' || c == ',') out += '\\';
      out += c;
    }
    return out;
  };
  return "index=off,metacopy=off,redirect_dir=off,lowerdir=" + escaped(overlay.lower) +
         ",upperdir=" + escaped(overlay.upper) + ",workdir=" + escaped(overlay.work);
}

Status in_mount_namespace(pid_t pid, const std::function<Status()>& work) {
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/mnt";
  const Fd space(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!space) return fail_errno("open " + path);
  Status done;
  std::thread([&] {
    if (::unshare(CLONE_FS) != 0 || ::setns(space.get(), CLONE_NEWNS) != 0) {
      done = fail_errno("enter the mount namespace of process " + std::to_string(pid));
      return;
    }
    done = work();
  }).join();
  return done;
}

Status mount_overlay_in(pid_t pid, const OverlayMount& overlay) {
  const std::string options = overlay_options(overlay);
  return in_mount_namespace(pid, [&]() -> Status {
    if (mount_overlay(overlay, options) == 0) return {};
    return fail_errno("mount the overlay of " + overlay.upper);
  });
}

Status attach_mount_in(pid_t pid, int root_fd, const std::string& mount_point) {
  return in_mount_namespace(pid, [&]() -> Status {
    if (::move_mount(root_fd, "", AT_FDCWD, mount_point.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0) return {};
    return fail_errno("mount a file system at " + mount_point);
  });
}

Result<Process> Process::open(pid_t pid) {
  Fd fd(pidfd_open(pid));
  if (!fd) return fail_errno("process " + std::to_string(pid));
  return Process(pid, std::move(fd));
}

bool Process::running() const {
  if (!valid()) return false;
  pollfd poll_fd{pidfd_.get(), POLLIN, 0};
  return ::poll(&poll_fd, 1, 0) == 0;
}

void Process::signal(int number) const {
  if (valid()) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

void Process::signal_group(int number) const {
  if (valid()) ::kill(-pid_, number);
}

void Process::kill_and_reap() {
  if (!valid()) return;
  signal(SIGKILL);
  // A killed task ends in milliseconds, unless it sleeps in the kernel: then reap_strangers() gets
  // it later. Nothing here may hang.
  constexpr int kLimitMs = 2000;
  pollfd poll_fd{pidfd_.get(), POLLIN, 0};
  ::poll(&poll_fd, 1, kLimitMs);
  (void)reap(pidfd_.get());
  pidfd_.reset();
}

awaitable<std::optional<ExitStatus>> Process::wait() {
  constexpr std::chrono::hours kLong{24};
  for (;;) {
    auto ended = co_await wait_for(kLong);
    if (ended) co_return *ended;
  }
}

awaitable<Result<std::optional<ExitStatus>>> Process::wait_for(Milliseconds limit) {
  constexpr Milliseconds kLook{50};  // without a descriptor or memory left to be woken by
  auto executor = co_await asio::this_coro::executor;
  const auto end = SteadyClock::now() + limit;
  asio::posix::stream_descriptor watch(executor);
  Fd own(::fcntl(pidfd_.get(), F_DUPFD_CLOEXEC, 0));
  boost::system::error_code failed;
  if (own) watch.assign(own.get(), failed);
  if (own && !failed) {
    (void)own.release();
    Deadline deadline(executor, limit, [&watch] { watch.cancel(); });
    co_await watch.async_wait(asio::posix::stream_descriptor::wait_read, use_tuple);
  }
  while (running() && SteadyClock::now() < end) co_await sleep_for(kLook);
  if (running()) co_return fail(Errc::kTimeout, "not ended after " + std::to_string(limit.count()) + " ms");
  co_return reap(pidfd_.get());
}

void raise_priority() {
  constexpr int kNice = -10;
  ::setpriority(PRIO_PROCESS, 0, kNice);
}

Result<Process> spawn(const SpawnOptions& options) {
  TRY(Prepared prepared, prepare(options));
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) return fail_errno("pipe");
  Fd read_end(pipe_fds[0]);
  Fd write_end(pipe_fds[1]);
  Fd pidfd;
  const pid_t pid = fork_into(prepared.cgroup, pidfd);
  if (pid < 0) return fail_task("start " + options.argv[0] + (prepared.cgroup ? " in " + options.cgroup : ""));
  if (pid == 0) run_child(options, prepared, write_end.get());
  write_end.reset();
  Process process(pid, std::move(pidfd));
  int report[2];
  ssize_t got;
  do {
    got = ::read(read_end.get(), report, sizeof report);
  } while (got < 0 && errno == EINTR);
  if (got == sizeof report) {
    process.kill_and_reap();
    return fail_errno("start " + options.argv[0] + ": " + kStepNames[report[0]], report[1]);
  }
  return process;
}

awaitable<Result<ToolOutput>> run_tool(SpawnOptions options, Milliseconds limit) {
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) co_return fail_errno("pipe");
  Fd write_end(pipe_fds[1]);
  auto executor = co_await asio::this_coro::executor;
  asio::posix::stream_descriptor output(executor, pipe_fds[0]);
  options.stdout_fd = options.stderr_fd = write_end.get();
  auto process = spawn(options);
  write_end.reset();
  if (!process) co_return tl::unexpected<Error>(process.error());

  Deadline deadline(executor, limit, [&process, &output] {
    process->signal(SIGKILL);
    output.cancel();
  });
  ToolOutput result;
  constexpr std::size_t kLimit = 1 << 20;
  std::vector<char> chunk(16 * 1024);
  for (;;) {
    auto [error, n] = co_await output.async_read_some(asio::buffer(chunk), use_tuple);
    if (error) break;
    if (result.text.size() < kLimit) result.text.append(chunk.data(), n);
  }
  auto status = co_await process->wait();
  if (deadline.expired()) {
    co_return fail(Errc::kTimeout, options.argv[0] + " was ended after " +
                                       std::to_string(limit.count()) + " ms: " + result.text);
  }
  result.status = status.value_or(ExitStatus{127, false});
  co_return result;
}

namespace {

bool is_zombie(pid_t pid) {
  auto text = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  if (!text) return false;
  const auto end_of_name = text->rfind(')');
  return end_of_name != std::string::npos && text->compare(end_of_name + 1, 2, " Z") == 0;
}

}  // namespace

bool is_traced(pid_t pid) {
  auto text = read_file("/proc/" + std::to_string(pid) + "/status", 16384);
  if (!text) return false;
  const auto at = text->find("TracerPid:\t");
  return at != std::string::npos && (*text)[at + 11] != '0';
}

void reap_strangers() {
  static std::set<pid_t> seen;
  std::set<pid_t> zombies;
  auto children = read_file("/proc/self/task/" + std::to_string(::gettid()) + "/children");
  std::istringstream pids(children.value_or(""));
  for (pid_t pid; pids >> pid;) {
    if (!is_zombie(pid)) continue;
    if (seen.contains(pid)) {
      ::waitpid(pid, nullptr, WNOHANG);
    } else {
      zombies.insert(pid);
    }
  }
  seen = std::move(zombies);
}

std::uint64_t resident_bytes(pid_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  statm >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::uint64_t process_start_time(pid_t pid) {
  auto text = read_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  if (!text) return 0;
  const auto end_of_name = text->rfind(')');
  if (end_of_name == std::string::npos) return 0;
  std::istringstream rest(text->substr(end_of_name + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) rest >> skipped;
  std::uint64_t ticks = 0;
  rest >> ticks;
  return ticks;
}

}  // namespace lifeboat
