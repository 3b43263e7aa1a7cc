#include "criu_glue/inject.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

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

// How long a thread may take to stop: one that waits for a disk or in vfork() does not.
constexpr std::chrono::milliseconds kStopLimit{200};

struct ThreadState {
  char run = '?';         // R, S, D, T, t, Z, X
  pid_t tracer = 0;       // who has it under ptrace already
  bool filtered = false;  // by seccomp: it might be killed for a system call that we make in it
};

ThreadState state_of(pid_t pid, pid_t tid) {
  ThreadState state;
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
  static Result<StoppedThread> stop(pid_t tid, const ThreadState& state) {
    unsigned long options = PTRACE_O_TRACESYSGOOD;
    if (state.filtered) options |= PTRACE_O_SUSPEND_SECCOMP;
    if (::ptrace(PTRACE_SEIZE, tid, 0, options) != 0) {
      if (state.tracer > 0) {
        return fail(Errc::kUnavailable, "process " + std::to_string(state.tracer) + " is tracing it");
      }
      return fail_errno(state.filtered ? "ptrace, its seccomp filter suspended" : "ptrace");
    }
    StoppedThread thread(tid);
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
  explicit StoppedThread(pid_t tid) : tid_(tid) {}

  Result<int> wait_stop() {
    int status = 0;
    const auto until = std::chrono::steady_clock::now() + kStopLimit;
    for (;;) {
      const pid_t which = ::waitpid(tid_, &status, __WALL | WNOHANG);
      if (which == tid_) break;
      if (which < 0) return fail_errno("wait for a traced thread");
      if (std::chrono::steady_clock::now() > until) {
        tid_ = -1;  // the kernel lets it go when this thread of ours ends
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
  pid_t group_ = -1;
  user_regs_struct saved_{};
  bool have_registers_ = false;
  bool ran_ = false;
  std::vector<int> signals_;
};

Result<Fd> inject_into(pid_t pid, pid_t tid, std::uint64_t instruction) {
  const ThreadState state = state_of(pid, tid);
  if (state.run == 'Z' || state.run == 'X') return fail(Errc::kNotFound, "it has ended");
  if (state.run == 'D') {
    return fail(Errc::kUnavailable, "its thread waits in the kernel and cannot be stopped");
  }
  TRY(StoppedThread thread, StoppedThread::stop(tid, state));
  thread.set_group(pid);
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

Result<Fd> inject_into_any(pid_t pid) {
  const ThreadState state = state_of(pid, pid);
  if (state.run == '?') return fail(Errc::kNotFound, "it has ended");
  auto instruction = find_syscall(pid);
  if (!instruction) {
    if (state.run == 'Z') return fail(Errc::kNotFound, "it has ended (a zombie)");
    return tl::unexpected<Error>(instruction.error());
  }
  Error last(Errc::kNotFound, "it has no thread");
  std::error_code error;
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  for (std::filesystem::directory_iterator at(tasks, error), end; !error && at != end;
       at.increment(error)) {
    const pid_t tid = static_cast<pid_t>(std::strtol(at->path().filename().c_str(), nullptr, 10));
    auto uffd = inject_into(pid, tid, *instruction);
    if (uffd) return uffd;
    last = uffd.error();
  }
  return tl::unexpected<Error>(last);
}

}  // namespace

// On a thread of its own: what it traces, the kernel lets go when it ends, whatever went wrong.
Result<Fd> inject_userfaultfd(pid_t pid) {
  Result<Fd> uffd;
  std::jthread([&] { uffd = inject_into_any(pid); }).join();
  return uffd;
}

}  // namespace lifeboat
