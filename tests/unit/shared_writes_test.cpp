// Which pages of a file without a name, or of anonymous memory, were written through mappings: against processes in a pid namespace and a
// cgroup of their own, as a container's are.
#include "criu_glue/shared_writes.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

namespace lifeboat {
namespace {

using Ranges = std::vector<FileRange>;

constexpr std::uint64_t kPages = 4096;     // of the file: 16 MiB
constexpr std::uint64_t kDataPages = 3072;  // the rest is a hole

FileRange page(std::uint64_t number) { return {number * kPageBytes, (number + 1) * kPageBytes}; }

// What the first process does when it is told to.
enum Order : char {
  kWrite = 'w',          // page 3 and one of the hole
  kRead = 'r',           // one of both
  kGiveBack = 'g',       // writes page 7 and takes it out of its page table
  kGiveBackMuch = 'm',   // the same with 4 MiB, a page table and more
  kPunch = 'p',          // makes a hole
  kPunchAndRead = 'q',   // and has a page of zeros there
  kPunchOdd = 'o',       // makes a hole of every other page
  kFork = 'f',           // a child writes and ends
  kThread = 't',         // a thread writes and ends
  kSibling = 's',        // one that stays writes page 11
  kUnmapPart = 'u',
  kMapAgain = 'a',       // by a descriptor that it kept
  kWriteByCall = 'c',    // by that
  kDirectIo = 'd',       // opens another file for that
};

enum class Memory { kFile, kFileWithDescriptor, kAnonymous };

class SharedWritesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto cgroup = Cgroup::create("lifeboat-shared-test", std::to_string(::getpid()));
    ASSERT_TRUE(cgroup.has_value()) << cgroup.error().message;
    cgroup_ = std::make_unique<Cgroup>(std::move(*cgroup));
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_), 0);
  }

  void start(Memory memory = Memory::kFile) {
    pid_ = static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0));
    if (pid_ == 0) {
      work(memory);
      ::_exit(0);
    }
    std::ofstream(cgroup_->procs_file()) << pid_ << '\n';
    tell('\0');  // it has begun
    const auto mappings = shared_mappings(pid_);
    ASSERT_TRUE(mappings.has_value()) << mappings.error().message;
    for (const SharedMapping& mapping : *mappings) {
      file_ = mapping.file;
      opened_ = open_mapped(pid_, mapping.range);
    }
    ASSERT_TRUE(opened_.fd) << "the file is not found";
    writes_ = std::make_unique<SharedWrites>(*cgroup_, pid_);
    const Status watching = writes_->watch({{file_, opened_.fd.get()}});
    ASSERT_TRUE(watching.has_value()) << watching.error().message;
  }

  void TearDown() override {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);  // all of its namespace
      ::waitpid(pid_, nullptr, 0);
    }
    for (const int end : ends_) ::close(end);
    if (cgroup_) (void)cgroup_->remove(Milliseconds(5000));
  }

  void tell(char order) const {
    char answer = 0;
    ASSERT_EQ(::write(ends_[0], &order, 1), 1);
    pollfd ready{ends_[0], POLLIN, 0};
    ASSERT_EQ(::poll(&ready, 1, 30'000), 1) << "it hangs";
    ASSERT_EQ(::read(ends_[0], &answer, 1), 1);
    ASSERT_EQ(answer, order);
  }

  std::optional<Ranges> written() {
    if (HasFatalFailure()) return std::nullopt;
    EXPECT_TRUE(cgroup_->freeze_now(Milliseconds(5000)).has_value());
    writes_->check();
    auto found = writes_->written(file_);
    EXPECT_TRUE(cgroup_->thaw().has_value());
    return found;
  }
  std::optional<Ranges> written_after(Order order) {
    start();
    tell(order);
    return written();
  }

  std::unique_ptr<Cgroup> cgroup_;
  std::unique_ptr<SharedWrites> writes_;
  std::string file_;
  OpenedMapping opened_;
  pid_t pid_ = -1;

 private:
  // To another process, and back.
  struct Pipes {
    int orders[2];
    int answers[2];
  };

  void work(Memory kind) const {
    char order = 0;
    if (::read(ends_[1], &order, 1) != 1) return;  // only now it is in the cgroup, and what it begins will be
    int fd = -1;
    if (kind != Memory::kAnonymous) {
      char name[] = "/dev/shm/lifeboat-shared-test-XXXXXX";
      fd = ::mkstemp(name);
      ::unlink(name);
      if (::ftruncate(fd, kPages * kPageBytes) != 0) return;
    }
    auto* const memory = static_cast<volatile char*>(::mmap(nullptr, kPages * kPageBytes, PROT_READ | PROT_WRITE,
                                                            MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0));
    for (std::uint64_t i = 0; i < kDataPages; ++i) memory[i * kPageBytes] = 1;
    if (kind == Memory::kFile) ::close(fd);
    Pipes sibling;
    if (::pipe(sibling.orders) != 0 || ::pipe(sibling.answers) != 0) return;
    if (::fork() == 0) {
      while (::read(sibling.orders[0], &order, 1) == 1) {
        memory[11 * kPageBytes] = 2;
        if (::write(sibling.answers[1], &order, 1) != 1) break;
      }
      ::_exit(0);
    }
    do {
      obey(order, memory, fd, sibling);
    } while (::write(ends_[1], &order, 1) == 1 && ::read(ends_[1], &order, 1) == 1);
  }

  static void obey(char order, volatile char* memory, int fd, const Pipes& sibling) {
    const auto at = [memory](std::uint64_t number) { return const_cast<char*>(memory) + number * kPageBytes; };
    switch (order) {
      case kWrite:
        *at(3) = 2;
        *at(kDataPages + 5) = 2;
        break;
      case kRead: (void)memory[5 * kPageBytes]; (void)memory[(kDataPages + 9) * kPageBytes]; break;
      case kGiveBack:
        *at(7) = 2;
        ::madvise(at(7), kPageBytes, MADV_DONTNEED);
        break;
      case kGiveBackMuch:
        *at(700) = 2;
        ::madvise(at(512), 1024 * kPageBytes, MADV_DONTNEED);
        break;
      case kPunch: ::madvise(at(9), kPageBytes, MADV_REMOVE); break;
      case kPunchAndRead:
        ::madvise(at(9), kPageBytes, MADV_REMOVE);
        (void)*static_cast<volatile char*>(at(9));
        break;
      case kPunchOdd:
        for (std::uint64_t i = 1; i < kPages; i += 2) ::madvise(at(i), kPageBytes, MADV_REMOVE);
        for (std::uint64_t i = 1; i < kPages; i += 2) ::madvise(at(i), kPageBytes, MADV_DONTNEED);
        ::madvise(at(0), kPages * kPageBytes, MADV_REMOVE);
        break;
      case kFork:
        if (const pid_t child = ::fork(); child == 0) {
          *at(13) = 2;
          ::_exit(0);
        } else {
          ::waitpid(child, nullptr, 0);
        }
        break;
      case kThread: std::thread([&] { *at(15) = 2; }).join(); break;
      case kSibling: {
        char answer = 0;
        (void)!::write(sibling.orders[1], "x", 1);
        (void)!::read(sibling.answers[0], &answer, 1);
        break;
      }
      case kUnmapPart: ::munmap(at(kPages - 1), kPageBytes); break;
      case kMapAgain: {
        void* const again = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 17 * kPageBytes);
        *static_cast<volatile char*>(again) = 2;
        ::munmap(again, kPageBytes);
        break;
      }
      case kDirectIo: (void)!::open("/var/tmp/lifeboat-shared-test", O_RDWR | O_CREAT | O_DIRECT, 0600); break;
      case kWriteByCall: (void)!::pwrite(fd, "x", 1, 19 * kPageBytes); break;
      default: break;
    }
  }

  int ends_[2] = {-1, -1};
};

TEST_F(SharedWritesTest, NothingIsWritten) {
  start();
  EXPECT_EQ(written(), Ranges{});
}

TEST_F(SharedWritesTest, PagesAndHolesAreWritten) {
  EXPECT_EQ(written_after(kWrite), (Ranges{page(3), page(kDataPages + 5)}));
}

TEST_F(SharedWritesTest, ByEachOfTheProcesses) {
  start();
  tell(kWrite);
  tell(kSibling);
  EXPECT_EQ(written(), (Ranges{page(3), page(11), page(kDataPages + 5)}));
}

TEST_F(SharedWritesTest, ReadingIsNoWriting) { EXPECT_EQ(written_after(kRead), Ranges{}); }

// The file has them still, but no page table tells any more.
TEST_F(SharedWritesTest, WhatIsGivenBackCountsAsWritten) {
  EXPECT_EQ(written_after(kGiveBack), Ranges{page(7)});
}

TEST_F(SharedWritesTest, SoDoesAWholePageTable) {
  const auto found = written_after(kGiveBackMuch);
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->size(), 1U);
  EXPECT_LE(found->front().start, 700 * kPageBytes);
  EXPECT_GT(found->front().end, 700 * kPageBytes);
}

TEST_F(SharedWritesTest, AHoleIsSeenByNoPageTable) { EXPECT_EQ(written_after(kPunch), std::nullopt); }

TEST_F(SharedWritesTest, AnonymousMemoryIsWritten) {
  start(Memory::kAnonymous);
  tell(kWrite);
  tell(kSibling);
  EXPECT_EQ(written(), (Ranges{page(3), page(11), page(kDataPages + 5)}));
}

TEST_F(SharedWritesTest, AHoleInAnonymousMemoryCountsAsWritten) {
  start(Memory::kAnonymous);
  tell(kPunch);
  EXPECT_EQ(written(), Ranges{page(9)});
}

// The page table has a page again, and it is protected.
TEST_F(SharedWritesTest, SoDoesOneThatHasBeenFilled) {
  start(Memory::kAnonymous);
  tell(kPunchAndRead);
  EXPECT_EQ(written(), Ranges{page(9)});
}

// What was read before the process went on may have been read before there was a hole.
TEST_F(SharedWritesTest, AHoleIsToldOfInEveryPass) {
  start(Memory::kAnonymous);
  tell(kPunchAndRead);
  EXPECT_EQ(writes_->collect(file_), Ranges{page(9)});
  EXPECT_EQ(writes_->collect(file_), Ranges{page(9)});
  ASSERT_TRUE(writes_->watch({{file_, opened_.fd.get()}}).has_value());
  EXPECT_EQ(written(), Ranges{});
}

TEST_F(SharedWritesTest, SoManyHolesAreNotKept) {
  start(Memory::kAnonymous);
  tell(kPunchOdd);
  EXPECT_EQ(written(), std::nullopt);
}

// Whoever makes a hole waits until that has been read.
TEST_F(SharedWritesTest, NobodyWaitsWhenWatchingHasEnded) {
  start(Memory::kAnonymous);
  writes_.reset();
  tell(kPunch);
  tell(kPunchOdd);
}

TEST_F(SharedWritesTest, AChildWritesUnseen) { EXPECT_EQ(written_after(kFork), std::nullopt); }

// Its mappings are its process's, but from outside it cannot be told from a child.
TEST_F(SharedWritesTest, AThreadMightHaveBeenAChild) { EXPECT_EQ(written_after(kThread), std::nullopt); }

TEST_F(SharedWritesTest, AMappingThatIsGoneMayHaveBeenWrittenTo) {
  EXPECT_EQ(written_after(kUnmapPart), std::nullopt);
}

TEST_F(SharedWritesTest, WhoHasADescriptorMayMapItUnseen) {
  start(Memory::kFileWithDescriptor);
  tell(kMapAgain);
  EXPECT_EQ(written(), std::nullopt);
}

TEST_F(SharedWritesTest, OrWriteByACall) {
  start(Memory::kFileWithDescriptor);
  tell(kWriteByCall);
  EXPECT_EQ(written(), std::nullopt);
}

TEST_F(SharedWritesTest, SomebodyHasOpenedIt) {
  start();
  {
    const Fd again(::open(("/proc/self/fd/" + std::to_string(opened_.fd.get())).c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_EQ(::pwrite(again.get(), "x", 1, 21 * kPageBytes), 1);
  }
  EXPECT_EQ(written(), std::nullopt);
}

TEST_F(SharedWritesTest, ADeviceMayWriteUnseen) {
  EXPECT_EQ(written_after(kDirectIo), std::nullopt);
  ::unlink("/var/tmp/lifeboat-shared-test");
}

TEST_F(SharedWritesTest, ItIsWatchedAgain) {
  EXPECT_EQ(written_after(kFork), std::nullopt);
  ASSERT_TRUE(writes_->watch({{file_, opened_.fd.get()}}).has_value());
  tell(kWrite);
  EXPECT_EQ(written(), (Ranges{page(3), page(kDataPages + 5)}));
}

TEST_F(SharedWritesTest, WhatWasCollectedIsWatchedOn) {
  start();
  tell(kWrite);
  EXPECT_EQ(writes_->collect(file_), (Ranges{page(3), page(kDataPages + 5)}));
  EXPECT_EQ(writes_->collect(file_), Ranges{});
  tell(kSibling);
  EXPECT_EQ(written(), Ranges{page(11)});
  EXPECT_TRUE(writes_->knows(file_));
  tell(kFork);
  EXPECT_EQ(written(), std::nullopt);
  EXPECT_FALSE(writes_->knows(file_));
  EXPECT_EQ(writes_->collect(file_), std::nullopt);
}

TEST_F(SharedWritesTest, AFileThatIsNotWatchedIsNotKnown) {
  start();
  EXPECT_TRUE(cgroup_->freeze_now(Milliseconds(5000)).has_value());
  writes_->check();
  EXPECT_EQ(writes_->written("00:01 1"), std::nullopt);
  EXPECT_TRUE(cgroup_->thaw().has_value());
}

}  // namespace
}  // namespace lifeboat
