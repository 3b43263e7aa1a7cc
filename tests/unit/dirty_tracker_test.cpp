// Which pages were written: against processes that write and change their mappings meanwhile.
#include "criu_glue/dirty_tracker.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <thread>

#include "criu_glue/inject.hpp"

namespace lifeboat {
namespace {

// What one process has done and another one waits for.
class Step {
 public:
  Step() { EXPECT_EQ(::pipe2(ends_, O_CLOEXEC), 0); }
  ~Step() {
    for (const int end : ends_) ::close(end);
  }
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;
  void done() const { (void)!::write(ends_[1], "x", 1); }
  void await() const {
    char byte = 0;
    pollfd ready{ends_[0], POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, 30'000), 1) << "it hangs";
    EXPECT_EQ(::read(ends_[0], &byte, 1), 1);
  }

 private:
  int ends_[2];
};

// A child that runs `body` until it is ended.
class Child {
 public:
  template <class Body>
  explicit Child(Body body) : pid_(::fork()) {
    if (pid_ == 0) {
      body();
      ::_exit(0);
    }
  }
  ~Child() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  void stop() const {
    ::kill(pid_, SIGSTOP);
    ::waitpid(pid_, nullptr, WUNTRACED);
  }
  void go_on() const { ::kill(pid_, SIGCONT); }

 private:
  pid_t pid_;
};

// A child that fills its memory, is tracked and collected once, and only then changes something.
class CollectedChild {
 public:
  template <class Fill, class Change>
  CollectedChild(Tracking kind, Fill fill, Change change)
      : child_([=, this] {
          fill();
          filled_.done();
          go_.await();
          change();
          changed_.done();
          ::pause();
        }) {
    filled_.await();
    auto tracker = DirtyTracker::attach(child_.pid(), kind);
    EXPECT_TRUE(tracker.has_value()) << tracker.error().message;
    if (!tracker) return;
    tracker_ = std::move(*tracker);
    child_.stop();
    EXPECT_TRUE(tracker_->refresh().has_value());
    EXPECT_TRUE(tracker_->look().has_value());
    EXPECT_TRUE(tracker_->collect().has_value());
    child_.go_on();
  }
  void let_it_change() const {
    go_.done();
    changed_.await();
  }
  [[nodiscard]] const Child& child() const { return child_; }
  [[nodiscard]] bool tracked() const { return tracker_ != nullptr; }
  [[nodiscard]] DirtyTracker& tracker() const { return *tracker_; }
  [[nodiscard]] Survey survey() const {
    const auto found = tracker_->survey(owned_mappings(child_.pid()).value());
    EXPECT_TRUE(found.has_value()) << found.error().message;
    return found.value_or(Survey{});
  }

 private:
  Step filled_, go_, changed_;
  Child child_;
  std::unique_ptr<DirtyTracker> tracker_;
};

bool has(const std::vector<PageRun>& runs, const volatile void* at) {
  const auto address = reinterpret_cast<std::uint64_t>(at);
  return std::any_of(runs.begin(), runs.end(),
                     [&](const PageRun& run) { return run.address <= address && address < run.end(); });
}

// More than the 512 pieces that the kernel collects at a time.
TEST(DirtyTracker, MemoryInManyPiecesIsReportedOnce) {
  if (!can_track_writes()) GTEST_SKIP() << "this kernel cannot track writes";
  constexpr std::size_t kPieces = 1250;
  int done[2];
  ASSERT_EQ(::pipe(done), 0);
  const Child child([&] {
    constexpr std::size_t kBytes = 2 * kPieces * kPageBytes;
    void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ::madvise(memory, kBytes, MADV_NOHUGEPAGE);
    for (std::size_t i = 0; i < kPieces; ++i) {
      static_cast<volatile char*>(memory)[2 * i * kPageBytes] = 1;
    }
    (void)!::write(done[1], "x", 1);
    for (;;) ::pause();
  });
  char byte = 0;
  ASSERT_EQ(::read(done[0], &byte, 1), 1);
  auto tracker = DirtyTracker::attach(child.pid());
  ASSERT_TRUE(tracker.has_value()) << tracker.error().message;
  const auto check = [&](const std::vector<PageRun>& runs) {
    EXPECT_GE(runs.size(), kPieces);
    std::uint64_t end = 0;
    for (const PageRun& run : runs) {
      ASSERT_GE(run.address, end) << "reported before";
      end = run.address + run.pages * kPageBytes;
    }
  };
  const std::vector<AddressRange> mappings = owned_mappings(child.pid()).value();
  check((*tracker)->survey(mappings).value().written);
  ASSERT_TRUE((*tracker)->refresh().has_value());
  check((*tracker)->collect().value());
  check((*tracker)->survey(mappings).value().there);
}

TEST(DirtyTracker, AttachingDisturbsNoSystemCall) {
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  int out[2];
  ASSERT_EQ(::pipe(out), 0);
  const Child child([&] {
    char good = 'y';
    std::jthread sleeper([&] {
      for (;;) {
        pollfd nothing{-1, 0, 0};
        if (::poll(&nothing, 1, 20) < 0) good = 'n';
      }
    });
    for (;;) {
      char byte = 0;
      (void)!::write(out[1], &good, 1);
      if (::read(pipe[0], &byte, 1) != 1) good = 'n';
    }
  });
  char answer = 0;
  ASSERT_EQ(::read(out[0], &answer, 1), 1);  // it is where it is to be
  for (int i = 0; i < 100; ++i) {
    const auto tracker = DirtyTracker::attach(child.pid());
    ASSERT_TRUE(tracker.has_value()) << tracker.error().message;
    ASSERT_EQ(::write(pipe[1], "x", 1), 1);
    pollfd ready{out[0], POLLIN, 0};
    ASSERT_EQ(::poll(&ready, 1, 5000), 1) << "the child hangs";
    ASSERT_EQ(::read(out[0], &answer, 1), 1);
    ASSERT_EQ(answer, 'y') << "a system call was interrupted";
  }
}

constexpr std::size_t kSomePages = 256;

[[noreturn]] void write_and_count(volatile char* memory, int answer) {
  for (char round = 1;; ++round) {
    for (std::size_t i = 0; i < kSomePages; ++i) memory[i * kPageBytes] = round;
    (void)!::write(answer, &round, 1);
    ::usleep(1000);
  }
}

volatile char* some_memory() {
  return static_cast<volatile char*>(::mmap(nullptr, kSomePages * kPageBytes, PROT_READ | PROT_WRITE,
                                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

// It still runs, that is: it says so more often than the pipe could hold from before.
void expect_alive(int answer) {
  for (int i = 0; i < 20; ++i) {
    char byte = 0;
    pollfd ready{answer, POLLIN, 0};
    ASSERT_EQ(::poll(&ready, 1, 5000), 1) << "the process hangs";
    ASSERT_EQ(::read(answer, &byte, 1), 1) << "the process is dead";
  }
}

// A mapping made since the last refresh() in the midst of a tracked one: the pages around it that
// collect() protects must all be told.
TEST(DirtyTracker, AForeignMappingInTheMidstLosesNoPage) {
  for (const Tracking kind : {Tracking::kUserfaultfd, Tracking::kSoftDirty}) {
    if (!can_track_writes(kind)) continue;
    char* const memory = const_cast<char*>(some_memory());
    const CollectedChild process(
        kind, [=] { std::memset(memory, 1, kSomePages * kPageBytes); },
        [=] {
          ::mmap(memory + 64 * kPageBytes, 8 * kPageBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
          memory[10 * kPageBytes] = 2;
          memory[66 * kPageBytes] = 2;
          memory[100 * kPageBytes] = 2;
        });
    ASSERT_TRUE(process.tracked());
    process.let_it_change();
    std::map<std::uint64_t, int> told;
    const auto note = [&](const std::vector<PageRun>& runs) {
      for (const PageRun& run : runs) {
        for (std::uint64_t i = 0; i < run.pages; ++i) ++told[run.address + i * kPageBytes];
      }
    };
    note(process.tracker().collect().value());
    process.child().stop();
    note(process.survey().written);
    for (const std::size_t page : {10U, 66U, 100U}) {
      EXPECT_GT(told[reinterpret_cast<std::uint64_t>(memory) + page * kPageBytes], 0)
          << "page " << page << " by " << to_string(kind);
    }
    ::munmap(memory, kSomePages * kPageBytes);
  }
}

// Given back whole, a huge page leaves no entry that could say so.
TEST(DirtyTracker, WhatWasGivenBackIsNotThere) {
  constexpr std::size_t kHuge = 2U << 20;
  for (const Tracking kind : {Tracking::kUserfaultfd, Tracking::kSoftDirty}) {
    if (!can_track_writes(kind)) continue;
    char* const mapped = static_cast<char*>(
        ::mmap(nullptr, 5 * kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(mapped, MAP_FAILED);
    char* const memory = mapped + (kHuge - reinterpret_cast<std::uintptr_t>(mapped) % kHuge) % kHuge;
    ::madvise(memory, 4 * kHuge, MADV_HUGEPAGE);
    const CollectedChild process(
        kind, [=] { std::memset(memory, 1, 4 * kHuge); },
        [=] {
          ::madvise(memory + kHuge, 2 * kHuge, MADV_DONTNEED);
          ::madvise(memory + 2 * kHuge, kHuge, MADV_NOHUGEPAGE);
          (void)static_cast<volatile char*>(memory)[2 * kHuge];  // now it has a page of zeros
          static_cast<volatile char*>(memory)[3 * kHuge + 5 * kPageBytes] = 2;
        });
    ASSERT_TRUE(process.tracked());
    process.let_it_change();
    process.child().stop();
    const Survey found = process.survey();
    for (std::size_t at = 0; at < 4 * kHuge; at += kPageBytes) {
      ASSERT_EQ(has(found.there, memory + at), at < kHuge || at >= 3 * kHuge) << at / kPageBytes << " by " << to_string(kind);
      const bool written = at == 3 * kHuge + 5 * kPageBytes;
      if (written) ASSERT_TRUE(has(found.written, memory + at)) << to_string(kind);
      if (at < kHuge) ASSERT_FALSE(has(found.written, memory + at)) << to_string(kind);
    }
    ::munmap(mapped, 5 * kHuge);
  }
}

// As rounds do it: what is found is collected piece by piece, and only that is clean then.
TEST(DirtyTracker, APieceIsCollectedAlone) {
  for (const Tracking kind : {Tracking::kUserfaultfd, Tracking::kSoftDirty}) {
    if (!can_track_writes(kind)) continue;
    char* const memory = const_cast<char*>(some_memory());
    const CollectedChild process(
        kind, [=] { std::memset(memory, 1, kSomePages * kPageBytes); },
        [=] { memory[10 * kPageBytes] = memory[11 * kPageBytes] = memory[200 * kPageBytes] = 2; });
    ASSERT_TRUE(process.tracked());
    DirtyTracker& tracker = process.tracker();
    process.let_it_change();
    process.child().stop();
    ASSERT_TRUE(tracker.refresh().has_value());
    // Soft-dirty bits are cleared by the refresh(): a second look is at what was written since.
    for (int times = 0; times < (kind == Tracking::kUserfaultfd ? 2 : 1); ++times) {
      const auto found = tracker.look().value();
      for (const std::size_t page : {10U, 11U, 200U}) EXPECT_TRUE(has(found, memory + page * kPageBytes)) << page;
      EXPECT_FALSE(has(found, memory + 12 * kPageBytes));
    }
    const auto start = reinterpret_cast<std::uint64_t>(memory);
    const auto first = tracker.collect({start + 11 * kPageBytes, start + 128 * kPageBytes}).value();
    EXPECT_EQ(first, (std::vector<PageRun>{{start + 11 * kPageBytes, 1}})) << "cut where the piece begins";
    if (kind == Tracking::kUserfaultfd) {
      const Survey rest = process.survey();
      EXPECT_TRUE(has(rest.written, memory + 10 * kPageBytes));
      EXPECT_FALSE(has(rest.written, memory + 11 * kPageBytes));
      EXPECT_TRUE(has(rest.written, memory + 200 * kPageBytes));
    }
    ::munmap(memory, kSomePages * kPageBytes);
  }
}

TEST(DirtyTracker, AnotherProgramIsNoticed) {
  const Step go;
  const Child child([&] {
    go.await();
    ::execl("/bin/sleep", "sleep", "60", nullptr);
    ::execl("/proc/self/exe", "tests", "--gtest_list_tests", nullptr);
  });
  auto tracker = DirtyTracker::untracked(child.pid());
  ASSERT_TRUE(tracker.has_value());
  EXPECT_TRUE((*tracker)->current());
  go.done();
  for (int i = 0; i < 1000 && (*tracker)->current(); ++i) ::usleep(10'000);
  EXPECT_FALSE((*tracker)->current());
}

TEST(DirtyTracker, AProcessUnderAnotherTracerIsLeftAlone) {
  if (!can_track_writes(Tracking::kUserfaultfd)) GTEST_SKIP() << "needs userfaultfd";
  int answer[2];
  ASSERT_EQ(::pipe(answer), 0);
  auto* const memory = some_memory();
  const Child child([&] { write_and_count(memory, answer[1]); });
  const Step traced;
  const Child tracer([&] {
    ::ptrace(PTRACE_SEIZE, child.pid(), 0, 0);
    traced.done();
    ::pause();
  });
  traced.await();
  const auto tracker = DirtyTracker::attach(child.pid(), Tracking::kUserfaultfd);
  ASSERT_FALSE(tracker.has_value());
  EXPECT_NE(tracker.error().message.find("is tracing it"), std::string::npos) << tracker.error().message;
  expect_alive(answer[0]);
}

// The filter kills for userfaultfd(); it is suspended for ours.
TEST(DirtyTracker, ASeccompFilterKillsNothing) {
  if (!can_track_writes(Tracking::kUserfaultfd)) GTEST_SKIP() << "needs userfaultfd";
  int answer[2];
  ASSERT_EQ(::pipe(answer), 0);
  auto* const memory = some_memory();
  const Child child([&] {
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{4, code};
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) ::_exit(1);
    write_and_count(memory, answer[1]);
  });
  expect_alive(answer[0]);
  const auto tracker = DirtyTracker::attach(child.pid(), Tracking::kUserfaultfd);
  if (!tracker) {
    EXPECT_NE(tracker.error().message.find("seccomp"), std::string::npos) << tracker.error().message;
  }
  expect_alive(answer[0]);
}

// As the daemon has it done.
TEST(DirtyTracker, AProgramOfItsOwnAttaches) {
  if (!can_track_writes(Tracking::kUserfaultfd)) GTEST_SKIP() << "needs userfaultfd";
  const Child child([] { ::pause(); });
  const auto injector = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "lifeboat-inject";
  use_injector(injector);
  const auto tracker = DirtyTracker::attach(child.pid(), Tracking::kUserfaultfd);
  use_injector("/no/such/program");
  const auto without = DirtyTracker::attach(child.pid(), Tracking::kUserfaultfd);
  use_injector("");
  EXPECT_TRUE(tracker.has_value()) << tracker.error().message;
  ASSERT_FALSE(without.has_value());
  EXPECT_NE(without.error().message.find("/no/such/program"), std::string::npos) << without.error().message;
}

TEST(DirtyTracker, AZombieIsRefusedWithAReason) {
  const Child child([] { ::_exit(0); });
  siginfo_t ended;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid()), &ended, WEXITED | WNOWAIT), 0);
  for (const Tracking kind : {Tracking::kUserfaultfd, Tracking::kSoftDirty}) {
    if (!can_track_writes(kind)) continue;
    const auto tracker = DirtyTracker::attach(child.pid(), kind);
    ASSERT_FALSE(tracker.has_value());
    EXPECT_FALSE(tracker.error().message.empty());
  }
}

// The child of a vfork() has its parent's memory and the parent waits in the kernel: neither can be
// tracked now, and neither comes to harm.
TEST(DirtyTracker, AVforkIsLeftAlone) {
  int go[2];
  int answer[2];
  ASSERT_EQ(::pipe(go), 0);
  ASSERT_EQ(::pipe(answer), 0);
  auto* const memory = some_memory();
  const Child parent([&] {
    const pid_t child = ::vfork();
    if (child == 0) {
      const pid_t own = ::getpid();
      char byte = 0;
      (void)!::write(answer[1], &own, sizeof own);
      (void)!::read(go[0], &byte, 1);
      ::_exit(0);
    }
    write_and_count(memory, answer[1]);
  });
  pid_t child = 0;
  ASSERT_EQ(::read(answer[0], &child, sizeof child), static_cast<ssize_t>(sizeof child));
  for (const Tracking kind : {Tracking::kUserfaultfd, Tracking::kSoftDirty}) {
    if (!can_track_writes(kind)) continue;
    const auto tracker = DirtyTracker::attach(child, kind);
    ASSERT_FALSE(tracker.has_value());
    EXPECT_NE(tracker.error().message.find("its parent's memory"), std::string::npos)
        << tracker.error().message;
  }
  if (can_track_writes(Tracking::kUserfaultfd)) {
    const auto tracker = DirtyTracker::attach(parent.pid(), Tracking::kUserfaultfd);
    ASSERT_FALSE(tracker.has_value());
    EXPECT_NE(tracker.error().message.find("waits in the kernel"), std::string::npos)
        << tracker.error().message;
  }
  ASSERT_EQ(::write(go[1], "x", 1), 1);
  expect_alive(answer[0]);
}

TEST(DirtyTracker, AProcessStoppedByASignalStaysStopped) {
  if (!can_track_writes()) GTEST_SKIP() << "this kernel cannot track writes";
  int answer[2];
  ASSERT_EQ(::pipe(answer), 0);
  auto* const memory = some_memory();
  const Child child([&] { write_and_count(memory, answer[1]); });
  expect_alive(answer[0]);
  child.stop();
  const auto tracker = DirtyTracker::attach(child.pid());
  ASSERT_TRUE(tracker.has_value()) << tracker.error().message;
  ::usleep(50'000);
  std::string state = *read_proc("/proc/" + std::to_string(child.pid()) + "/stat");
  EXPECT_EQ(state[state.rfind(')') + 2], 'T');
  child.go_on();
  expect_alive(answer[0]);
}

TEST(DirtyTracker, AProcessThatIsGone) {
  const auto tracker = DirtyTracker::attach(0x3ffffff);
  EXPECT_FALSE(tracker.has_value());
  EXPECT_FALSE(owned_mappings(0x3ffffff).has_value());
}

}  // namespace
}  // namespace lifeboat
