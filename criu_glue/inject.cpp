#include "criu_glue/inject.hpp"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/fd_passing.hpp"
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

// One thread under ptrace; let go on destruction with the registers it had.
class StoppedThread {
 public:
  static Result<StoppedThread> stop(pid_t tid) {
    if (::ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD) != 0) return fail_errno("ptrace");
    StoppedThread thread(tid);
    CHECK_OK(thread.interrupt());
    if (::ptrace(PTRACE_GETREGS, tid, 0, &thread.saved_) != 0) return fail_errno("ptrace registers");
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
    if (::waitpid(tid_, &status, __WALL) != tid_) return fail_errno("wait for a traced thread");
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
  TRY(StoppedThread thread, StoppedThread::stop(tid));
  thread.set_group(pid);
  const HeldThreads others(pid, tid);  // a fork now would leave the descriptor in the child for good
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
  TRY(const std::uint64_t instruction, find_syscall(pid));
  Error last(Errc::kNotFound, "it has no thread");
  std::error_code error;
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& entry : std::filesystem::directory_iterator(tasks, error)) {
    const pid_t tid = static_cast<pid_t>(std::strtol(entry.path().filename().c_str(), nullptr, 10));
    auto uffd = inject_into(pid, tid, instruction);
    if (uffd) return uffd;
    last = uffd.error();
  }
  return tl::unexpected<Error>(last);
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
Result<Fd> inject_userfaultfd(pid_t pid) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return fail_errno("socketpair");
  const Fd ours(pair[0]);
  Fd theirs(pair[1]);
  const pid_t helper = ::fork();
  if (helper < 0) return fail_errno("fork");
  if (helper == 0) {
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) (void)::signal(number, SIG_IGN);
    tell(theirs.get(), inject_into_any(pid));
    ::_exit(0);
  }
  theirs.reset();
  auto uffd = hear(ours.get());
  while (::waitpid(helper, nullptr, 0) < 0 && errno == EINTR) {
  }
  return uffd;
}

}  // namespace lifeboat
