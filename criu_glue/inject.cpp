#include "criu_glue/inject.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/fd_passing.hpp"
#include "base/process.hpp"
#include "base/starter.hpp"
#include "criu_glue/held_threads.hpp"

namespace lifeboat {

namespace {

// Address of a `syscall` instruction (0f 05) in the process's vDSO.
Result<std::uint64_t> find_syscall(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.size() < 6 || line.compare(line.size() - 6, 6, "[vdso]") != 0) continue;
    unsigned long start = 0;
    unsigned long end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &start, &end) != 2 || end - start > 65536) break;
    std::vector<unsigned char> code(end - start);
    const iovec local{code.data(), code.size()};
    const iovec remote{reinterpret_cast<void*>(start), code.size()};
    const ssize_t n = ::process_vm_readv(pid, &local, 1, &remote, 1, 0);
    for (ssize_t i = 0; i + 1 < n; ++i) {
      if (code[static_cast<std::size_t>(i)] == 0x0f && code[static_cast<std::size_t>(i) + 1] == 0x05) {
        return start + static_cast<std::uint64_t>(i);
      }
    }
  }
  return fail(Errc::kUnavailable, "no system call instruction found in its vDSO");
}

// How long the threads of a process may take to stop: those that wait for a disk or in vfork() do not.
constexpr std::chrono::milliseconds kStopLimit{1000};
using Clock = std::chrono::steady_clock;

struct ThreadState {
  pid_t tid = 0;
  char run = '?';         // R, S, D, T, t, Z, X
  pid_t tracer = 0;       // who has it under ptrace already
  bool filtered = false;  // by seccomp: it might be killed for a system call that we make in it
};

ThreadState state_of(pid_t pid, pid_t tid) {
  ThreadState state;
  state.tid = tid;
  std::ifstream status("/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("State:", 0) == 0) (void)std::sscanf(line.c_str(), "State: %c", &state.run);
    if (line.rfind("TracerPid:", 0) == 0) state.tracer = std::atoi(line.c_str() + 10);
    if (line.rfind("Seccomp:", 0) == 0) state.filtered = std::atoi(line.c_str() + 8) != 0;
  }
  return state;
}

// One thread under ptrace; let go on destruction with the registers it had.
class StoppedThread {
 public:
  static Result<StoppedThread> stop(const ThreadState& state, Clock::time_point until) {
    const pid_t tid = state.tid;
    unsigned long options = PTRACE_O_TRACESYSGOOD;
    if (state.filtered) options |= PTRACE_O_SUSPEND_SECCOMP;
    if (::ptrace(PTRACE_SEIZE, tid, 0, options) != 0) {
      if (state.tracer > 0) {
        return fail(Errc::kUnavailable, "process " + std::to_string(state.tracer) + " is tracing it");
      }
      return fail_errno(state.filtered ? "ptrace, its seccomp filter suspended" : "ptrace");
    }
    StoppedThread thread(tid, until);
    CHECK_OK(thread.interrupt());
    if (::ptrace(PTRACE_GETREGS, tid, 0, &thread.saved_) != 0) return fail_errno("ptrace registers");
    constexpr unsigned long long kUserCode64 = 0x33;
    if (thread.saved_.cs != kUserCode64) {
      return fail(Errc::kUnavailable, "it is in 32-bit code, whose system calls are others");
    }
    thread.have_registers_ = true;
    return thread;
  }
  StoppedThread(StoppedThread&& other) noexcept
      : tid_(std::exchange(other.tid_, -1)),
        until_(other.until_),
        saved_(other.saved_),
        have_registers_(other.have_registers_),
        signals_(std::move(other.signals_)) {}
  ~StoppedThread() {
    if (tid_ < 0) return;
    // Back in a stop from which the kernel restarts an interrupted system call by itself.
    if (have_registers_) {
      if (ran_) (void)interrupt();
      (void)::ptrace(PTRACE_SETREGS, tid_, 0, &saved_);
    }
    (void)::ptrace(PTRACE_DETACH, tid_, 0, 0);
    // Signals that came meanwhile.
    for (const int number : signals_) (void)::syscall(SYS_tgkill, group_, tid_, number);
  }
  void set_group(pid_t group) { group_ = group; }

  // Runs one system call there.
  Result<long> call(std::uint64_t instruction, long number, long a, long b, long c) {
    user_regs_struct regs = saved_;
    regs.rip = instruction;
    regs.rax = static_cast<unsigned long long>(number);
    regs.orig_rax = ~0ULL;  // no restart of the thread's own call in between
    regs.rdi = static_cast<unsigned long long>(a);
    regs.rsi = static_cast<unsigned long long>(b);
    regs.rdx = static_cast<unsigned long long>(c);
    if (::ptrace(PTRACE_SETREGS, tid_, 0, &regs) != 0) return fail_errno("ptrace registers");
    ran_ = true;
    CHECK_OK(to_syscall_stop());  // entry
    CHECK_OK(to_syscall_stop());  // exit
    if (::ptrace(PTRACE_GETREGS, tid_, 0, &regs) != 0) return fail_errno("ptrace registers");
    return static_cast<long>(regs.rax);
  }

 private:
  StoppedThread(pid_t tid, Clock::time_point until) : tid_(tid), until_(until) {}

  // Without a limit once the thread has our registers: let go with them it would crash.
  Result<int> wait_stop() {
    int status = 0;
    for (;;) {
      const pid_t which = ::waitpid(tid_, &status, ran_ ? __WALL : __WALL | WNOHANG);
      if (which == tid_) break;
      if (which < 0) return fail_errno("wait for a traced thread");
      if (Clock::now() > until_) {
        tid_ = -1;  // the kernel lets it go when this process ends
        return fail(Errc::kUnavailable, "its thread does not stop: it waits in the kernel");
      }
      ::usleep(20);
    }
    if (!WIFSTOPPED(status)) {
      tid_ = -1;
      return fail(Errc::kNotFound, "the process has ended");
    }
    return status;
  }

  // Into a stop of kind PTRACE_EVENT_STOP.
  Status interrupt() {
    if (::ptrace(PTRACE_INTERRUPT, tid_, 0, 0) != 0) return fail_errno("ptrace interrupt");
    if (ran_ && ::ptrace(PTRACE_CONT, tid_, 0, 0) != 0) return fail_errno("ptrace continue");
    for (;;) {
      TRY(const int status, wait_stop());
      if (status >> 16 == PTRACE_EVENT_STOP) return {};
      if (WSTOPSIG(status) != (SIGTRAP | 0x80)) signals_.push_back(WSTOPSIG(status));
      if (::ptrace(PTRACE_CONT, tid_, 0, 0) != 0) return fail_errno("ptrace continue");
    }
  }

  Status to_syscall_stop() {
    for (;;) {
      if (::ptrace(PTRACE_SYSCALL, tid_, 0, 0) != 0) return fail_errno("ptrace system call");
      TRY(const int status, wait_stop());
      if (WSTOPSIG(status) == (SIGTRAP | 0x80)) return {};
      if (status >> 16 == 0) signals_.push_back(WSTOPSIG(status));
    }
  }

  pid_t tid_;
  Clock::time_point until_;  // it has to have stopped
  pid_t group_ = -1;
  user_regs_struct saved_{};
  bool have_registers_ = false;
  bool ran_ = false;
  std::vector<int> signals_;
};

Result<Fd> inject_into(pid_t pid, const ThreadState& state, std::uint64_t instruction,
                       Clock::time_point until) {
  TRY(StoppedThread thread, StoppedThread::stop(state, until));
  thread.set_group(pid);
  const HeldThreads others(pid, state.tid);  // a fork now would leave the descriptor in the child for good
  TRY(const long made, thread.call(instruction, SYS_userfaultfd,
                                   O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY, 0, 0));
  if (made < 0) return fail_errno("userfaultfd in the process", static_cast<int>(-made));
  const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  Fd uffd(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), made, 0)));
  const int error = errno;
  TRY(const long closed, thread.call(instruction, SYS_close, made, 0, 0));
  (void)closed;
  if (!uffd) return fail_errno("take the userfaultfd over", error);
  return uffd;
}

// Those that have not ended; last those that wait in the kernel.
std::vector<ThreadState> threads_of(pid_t pid) {
  std::vector<ThreadState> threads;
  std::error_code error;
  std::filesystem::directory_iterator at("/proc/" + std::to_string(pid) + "/task", error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    const ThreadState state = state_of(pid, std::atoi(at->path().filename().c_str()));
    if (std::strchr("ZX?", state.run) == nullptr) threads.push_back(state);
  }
  std::stable_partition(threads.begin(), threads.end(),
                        [](const ThreadState& state) { return state.run != 'D'; });
  return threads;
}

Result<Fd> inject_into_any(pid_t pid) {
  const auto until = Clock::now() + kStopLimit;
  const std::vector<ThreadState> threads = threads_of(pid);
  if (threads.empty()) return fail(Errc::kNotFound, "it has ended");
  TRY(const std::uint64_t instruction, find_syscall(pid));
  Result<Fd> uffd;
  for (const ThreadState& thread : threads) {
    uffd = inject_into(pid, thread, instruction, until);
    if (uffd) break;
  }
  return uffd;
}

// What the helper process tells; the descriptor, if there is one, comes with it.
struct Verdict {
  Errc code;
  char text[256];
};

void tell(int socket, const Result<Fd>& uffd) {
  Verdict verdict{};
  if (!uffd) {
    verdict.code = uffd.error().code;
    std::snprintf(verdict.text, sizeof verdict.text, "%s", uffd.error().message.c_str());
  }
  (void)send_with_fd(socket, &verdict, sizeof verdict, uffd ? uffd->get() : -1);
}

Result<Fd> hear(int socket) {
  Verdict verdict{};
  Fd uffd;
  if (receive_with_fd(socket, &verdict, sizeof verdict, uffd) !=
      static_cast<ssize_t>(sizeof verdict)) {
    return fail(Errc::kUnavailable, "the process that was to do it has ended");
  }
  if (!uffd) return fail(verdict.code, verdict.text);
  return uffd;
}

}  // namespace

// In a process of its own: should this one be killed while a thread is in the middle of our system
// call, that thread would go on with our registers, that is: crash. The helper finishes its work.
void answer_injection(int socket, pid_t pid) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) (void)::signal(number, SIG_IGN);
  tell(socket, inject_into_any(pid));
}

namespace {

std::string& injector() {
  static std::string program;
  return program;
}

Result<Process> fork_helper(int socket, pid_t pid) {
  const pid_t helper = ::fork();
  if (helper < 0) return fail_errno("fork");
  if (helper == 0) {
    answer_injection(socket, pid);
    ::_exit(0);
  }
  return Process::open(helper);
}

Result<Process> start_helper(int socket, pid_t pid) {
  SpawnOptions options;
  options.argv = {injector(), std::to_string(pid)};
  options.fds = {{socket, kInjectorSocket}};
  options.keep_priority = true;
  ProcessStart begun(options);
  for (;;) {
    if (auto known = begun.poll()) return std::move(*known);
    pollfd polled{begun.fd(), POLLIN, 0};
    (void)::poll(&polled, 1, static_cast<int>(ProcessStart::kLimit.count()));
  }
}

}  // namespace

void use_injector(std::string program) { injector() = std::move(program); }

Result<Fd> inject_userfaultfd(pid_t pid) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return fail_errno("socketpair");
  const Fd ours(pair[0]);
  Fd theirs(pair[1]);
  TRY(const Process helper, injector().empty() ? fork_helper(theirs.get(), pid) : start_helper(theirs.get(), pid));
  theirs.reset();
  auto uffd = hear(ours.get());
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(helper.pidfd()), &info, WEXITED) < 0 && errno == EINTR) {
  }
  return uffd;
}

}  // namespace lifeboat
