#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/process.hpp"

namespace lifeboat {
namespace {

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

// What a service manager has told this process, and nobody else: crun would wait for READY=1 of a container.
bool is_of_service(const std::string& entry) {
  for (const char* name : {"NOTIFY_SOCKET=", "WATCHDOG_PID=", "WATCHDOG_USEC=", "LISTEN_PID=", "LISTEN_FDS=",
                           "INVOCATION_ID=", "JOURNAL_STREAM="}) {
    if (entry.rfind(name, 0) == 0) return true;
  }
  return false;
}

Result<Prepared> prepare(const SpawnOptions& options) {
  Prepared prepared;
  for (const std::string& arg : options.argv) prepared.argv.push_back(const_cast<char*>(arg.c_str()));
  prepared.argv.push_back(nullptr);
  for (char** entry = environ; *entry != nullptr; ++entry) prepared.env_text.emplace_back(*entry);
  std::erase_if(prepared.env_text, is_of_service);
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

Status mount_overlay_in(pid_t pid, const OverlayMount& overlay) {
  const std::string options = overlay_options(overlay);
  return in_mount_namespace(pid, [&]() -> Status {
    if (mount_overlay(overlay, options) == 0) return {};
    return fail_errno("mount the overlay of " + overlay.upper);
  });
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

}  // namespace lifeboat
