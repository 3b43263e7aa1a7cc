// Which pages were written: against processes that write and change their mappings meanwhile.
#include "criu_glue/dirty_tracker.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <random>
#include <thread>

namespace lifeboat {
namespace {

// A child that runs `body` until it is ended.
class Child {
 public:
  template <class Body>
  explicit Child(Body body) : pid_(::fork()) {
    if (pid_ == 0) {
      body();
      ::_exit(0);
    }
    ::usleep(50'000);
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

[[noreturn]] void churn() {
  std::mt19937_64 random(static_cast<unsigned>(::getpid()));
  constexpr std::size_t kArea = 4U << 20;
  struct Area {
    unsigned char* memory;
    std::size_t bytes;
  };
  std::vector<Area> areas;
  for (;;) {
    if (areas.size() < 8) {
      void* memory = ::mmap(nullptr, kArea, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      std::memset(memory, static_cast<int>(random() % 255 + 1), kArea / 2);
      areas.push_back({static_cast<unsigned char*>(memory), kArea});
    }
    if (random() % 64 == 0) ::usleep(500);  // leaves some pages alone between two looks
    const std::size_t which = random() % areas.size();
    Area& area = areas[which];
    const std::size_t at = random() % (area.bytes / kPageBytes) * kPageBytes;
    switch (random() % 200) {
      case 0:
        ::munmap(area.memory, area.bytes);
        areas.erase(areas.begin() + static_cast<std::ptrdiff_t>(which));
        break;
      case 1: ::madvise(area.memory + at, std::min<std::size_t>(65536, area.bytes - at), MADV_DONTNEED); break;
      case 2: {
        void* moved = ::mremap(area.memory, area.bytes, area.bytes + 65536, MREMAP_MAYMOVE);
        if (moved != MAP_FAILED) area = {static_cast<unsigned char*>(moved), area.bytes + 65536};
        break;
      }
      case 3: ::madvise(area.memory, area.bytes, random() % 2 == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); break;
      default: std::memset(area.memory + at, static_cast<int>(random() % 255 + 1), 128);
    }
  }
}

using Copy = std::map<std::uint64_t, std::vector<unsigned char>>;

bool read_page(pid_t pid, std::uint64_t address, std::vector<unsigned char>& out) {
  out.resize(kPageBytes);
  const iovec local{out.data(), kPageBytes};
  const iovec remote{reinterpret_cast<void*>(address), kPageBytes};
  return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(kPageBytes);
}

void copy_runs(pid_t pid, const std::vector<PageRun>& runs, Copy& copy) {
  for (const PageRun& run : runs) {
    if (!run.written) continue;
    for (std::uint64_t i = 0; i < run.pages; ++i) {
      std::vector<unsigned char> bytes;
      const std::uint64_t address = run.address + i * kPageBytes;
      if (read_page(pid, address, bytes)) {
        copy[address] = std::move(bytes);
      } else {
        copy.erase(address);
      }
    }
  }
}

TEST(DirtyTracker, ACopyKeptByRoundsIsTheMemoryInTheEnd) {
  ASSERT_TRUE(can_track_writes());
  for (int trial = 0; trial < 4; ++trial) {
    const Child child(churn);
    auto tracker = DirtyTracker::attach(child.pid());
    ASSERT_TRUE(tracker.has_value()) << tracker.error().message;
    Copy copy;
    for (int round = 0; round < 8; ++round) {
      child.stop();
      ASSERT_TRUE((*tracker)->refresh().has_value());
      child.go_on();
      const auto runs = (*tracker)->collect();
      ASSERT_TRUE(runs.has_value()) << runs.error().message;
      copy_runs(child.pid(), *runs, copy);
      ::usleep(20'000);
    }
    child.stop();
    const auto mappings = owned_mappings(child.pid());
    ASSERT_TRUE(mappings.has_value()) << mappings.error().message;
    const auto all = (*tracker)->survey(*mappings);
    ASSERT_TRUE(all.has_value()) << all.error().message;
    std::uint64_t clean = 0;
    std::uint64_t pages = 0;
    std::uint64_t last = 0;
    for (const PageRun& run : *all) {
      ASSERT_GE(run.address, last) << "out of order";
      last = run.address + run.pages * kPageBytes;
      for (std::uint64_t i = 0; i < run.pages; ++i, ++pages) {
        const std::uint64_t address = run.address + i * kPageBytes;
        std::vector<unsigned char> now;
        ASSERT_TRUE(read_page(child.pid(), address, now));
        // What the sender does: a page it never had is sent, whatever the tracker says.
        if (run.written || !copy.contains(address)) continue;
        ++clean;
        ASSERT_EQ(std::memcmp(copy[address].data(), now.data(), kPageBytes), 0)
            << "stale page at " << address;
      }
    }
    EXPECT_GT(clean, 0U) << "nothing of " << pages << " pages is tracked";
  }
}

// A thread in a system call must not notice that another one was slipped in.
// More than the 512 pieces that the kernel collects at a time.
TEST(DirtyTracker, MemoryInManyPiecesIsReportedOnce) {
  ASSERT_TRUE(can_track_writes());
  constexpr std::size_t kPieces = 1250;
  const Child child([] {
    constexpr std::size_t kBytes = 2 * kPieces * kPageBytes;
    void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ::madvise(memory, kBytes, MADV_NOHUGEPAGE);
    for (std::size_t i = 0; i < kPieces; ++i) {
      static_cast<volatile char*>(memory)[2 * i * kPageBytes] = 1;
    }
    for (;;) ::pause();
  });
  auto tracker = DirtyTracker::attach(child.pid());
  ASSERT_TRUE(tracker.has_value()) << tracker.error().message;
  const auto check = [&](const Result<std::vector<PageRun>>& runs) {
    ASSERT_TRUE(runs.has_value()) << runs.error().message;
    EXPECT_GE(runs->size(), kPieces);
    std::uint64_t end = 0;
    for (const PageRun& run : *runs) {
      ASSERT_GE(run.address, end) << "reported before";
      end = run.address + run.pages * kPageBytes;
    }
  };
  const std::vector<AddressRange> mappings = owned_mappings(child.pid()).value();
  check((*tracker)->survey(mappings));
  ASSERT_TRUE((*tracker)->refresh().has_value());
  check((*tracker)->collect());
  check((*tracker)->survey(mappings));
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
      if (::read(pipe[0], &byte, 1) != 1) good = 'n';
      (void)!::write(out[1], &good, 1);
    }
  });
  for (int i = 0; i < 100; ++i) {
    const auto tracker = DirtyTracker::attach(child.pid());
    ASSERT_TRUE(tracker.has_value()) << tracker.error().message;
    ASSERT_EQ(::write(pipe[1], "x", 1), 1);
    char answer = 0;
    pollfd ready{out[0], POLLIN, 0};
    ASSERT_EQ(::poll(&ready, 1, 5000), 1) << "the child hangs";
    ASSERT_EQ(::read(out[0], &answer, 1), 1);
    ASSERT_EQ(answer, 'y') << "a system call was interrupted";
  }
}

TEST(DirtyTracker, AProcessThatIsGone) {
  const auto tracker = DirtyTracker::attach(0x3ffffff);
  EXPECT_FALSE(tracker.has_value());
  EXPECT_FALSE(owned_mappings(0x3ffffff).has_value());
}

// The kernel walks such a mapping in several steps, and each page is to be told once, in order.
TEST(DirtyTracker, ManyPagesWithGapsBetween) {
  constexpr std::uint64_t kPages = 4000;
  void* const memory = ::mmap(nullptr, 2 * kPages * kPageBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  ::madvise(memory, 2 * kPages * kPageBytes, MADV_NOHUGEPAGE);
  for (std::uint64_t i = 0; i < kPages; ++i) static_cast<char*>(memory)[2 * i * kPageBytes] = 1;
  const Child child([] { ::pause(); });
  auto tracker = DirtyTracker::untracked(child.pid());
  ASSERT_TRUE(tracker) << tracker.error().message;
  AddressRange range;
  range.start = reinterpret_cast<std::uint64_t>(memory);
  range.end = range.start + 2 * kPages * kPageBytes;
  auto runs = (*tracker)->survey({range});
  ASSERT_TRUE(runs) << runs.error().message;
  std::uint64_t pages = 0;
  std::uint64_t end = 0;
  for (const PageRun& run : *runs) {
    EXPECT_GE(run.address, end);
    end = run.address + run.pages * kPageBytes;
    pages += run.pages;
  }
  EXPECT_EQ(pages, kPages);
  ::munmap(memory, 2 * kPages * kPageBytes);
}

}  // namespace
}  // namespace lifeboat
