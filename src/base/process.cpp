#include "base/process.hpp"

#include <fcntl.h>
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

#include "base/descriptor.hpp"
#include "base/file.hpp"
#include "base/starter.hpp"

namespace lifeboat {
namespace {

int pidfd_open(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }

// Until it is readable or the time has passed; not at all for fd < 0. Without a descriptor or memory left to be
// woken by, it looks.
awaitable<void> wait_readable(int fd, Milliseconds limit) {
  constexpr Milliseconds kLook{50};
  if (fd < 0) co_return;
  auto executor = co_await asio::this_coro::executor;
  const auto end = SteadyClock::now() + limit;
  if (auto watch = watched(executor, Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)))) {
    Deadline deadline(executor, limit, [&watch] { watch->cancel(); });
    co_await readable(*watch);
  }
  const auto is_readable = [fd] {
    pollfd poll_fd{fd, POLLIN, 0};
    return ::poll(&poll_fd, 1, 0) != 0;
  };
  while (!is_readable() && SteadyClock::now() < end) co_await sleep_for(kLook);
}

}  // namespace

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

std::optional<ExitStatus> Process::reap() const {
  siginfo_t info{};
  if (!valid() || ::waitid(P_PIDFD, static_cast<id_t>(pidfd()), &info, WEXITED | WNOHANG) != 0) return std::nullopt;
  if (info.si_pid == 0) return std::nullopt;
  if (info.si_code == CLD_EXITED) return ExitStatus{info.si_status, false};
  return ExitStatus{128 + info.si_status, true};
}

void Process::kill_and_reap() {
  if (!valid()) return;
  signal(SIGKILL);
  // A killed task ends in milliseconds, unless it sleeps in the kernel: then reap_strangers() gets
  // it later. Nothing here may hang.
  constexpr int kLimitMs = 2000;
  pollfd poll_fd{pidfd_.get(), POLLIN, 0};
  ::poll(&poll_fd, 1, kLimitMs);
  (void)reap();
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
  co_await wait_readable(pidfd_.get(), limit);
  if (running()) co_return fail(Errc::kTimeout, "not ended after " + std::to_string(limit.count()) + " ms");
  ProcessEnd end(*this);
  while (!end.poll()) co_await wait_readable(end.fd(), ProcessEnd::kLimit);
  co_return end.status();
}

awaitable<Result<Process>> start(SpawnOptions options) {
  ProcessStart begun(options);
  for (;;) {
    auto known = begun.poll();
    if (known) co_return std::move(*known);
    co_await wait_readable(begun.fd(), ProcessStart::kLimit);
  }
}

void raise_priority() {
  constexpr int kNice = -10;
  ::setpriority(PRIO_PROCESS, 0, kNice);
}

void lower_priority() {
  if (::setpriority(PRIO_PROCESS, 0, 0) == 0 || !has_starter()) return;
  // The daemon's unit keeps this call from it.
  constexpr Milliseconds kLimit{1000};
  (void)StarterCall::send(json::object{{"op", "ordinary"}, {"thread", ::gettid()}}, {}, kLimit);
}

ThreadTime thread_time() {
  const auto text = read_file("/proc/thread-self/schedstat", 256);
  if (!text) return {};
  char* end = nullptr;
  const double ran_ns = std::strtod(text->c_str(), &end);
  const double waited_ns = std::strtod(end, nullptr);
  return {ran_ns / 1e9, waited_ns / 1e9};
}

awaitable<Result<ToolOutput>> run_tool(SpawnOptions options, Milliseconds limit) {
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) co_return fail_errno("pipe");
  Fd read_end(pipe_fds[0]);
  Fd write_end(pipe_fds[1]);
  auto executor = co_await asio::this_coro::executor;
  CO_TRY(asio::posix::stream_descriptor output, watched(executor, std::move(read_end)));
  options.stdout_fd = options.stderr_fd = write_end.get();
  auto process = co_await start(options);
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
    if (co_await readable(output)) break;
    const ssize_t n = ::read(output.native_handle(), chunk.data(), chunk.size());
    if (n <= 0) break;
    if (result.text.size() < kLimit) result.text.append(chunk.data(), static_cast<std::size_t>(n));
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
