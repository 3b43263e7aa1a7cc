// A copy of a process's memory, kept by rounds as a migration keeps it, while the process does to its
// memory whatever a process can do: in the end, byte by byte, it must be the memory.
//
// LIFEBOAT_STRESS_S: seconds per backend (default 2); LIFEBOAT_STRESS_SEED: the first seed.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <random>
#include <span>
#include <thread>

#include "criu_glue/dirty_tracker.hpp"
#include "migration/round_pages.hpp"

namespace lifeboat {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kHuge = 2U << 20;
constexpr std::size_t kHuges = 6;
constexpr std::size_t kArenaBytes = kHuges * kHuge;  // of one thread

// What one thread does, in an arena of its own: addresses come back with something else at them.
class Mess {
 public:
  explicit Mess(std::uint64_t seed) : random_(seed) {
    void* const room = ::mmap(nullptr, kArenaBytes + kHuge, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    const auto at = (reinterpret_cast<std::uintptr_t>(room) + kHuge - 1) / kHuge * kHuge;
    arena_ = reinterpret_cast<char*>(at);
    ::mmap(arena_, kArenaBytes, kRw, kFixed, -1, 0);
    fill(arena_, kArenaBytes);
  }

  [[noreturn]] void run() {
    for (;;) {
      for (int i = 0; i < 200; ++i) {
        if (below(150) == 0) change();
        write_somewhere();
      }
      ::usleep(static_cast<useconds_t>(below(3000)));  // leaves some pages alone between two looks
    }
  }

 private:
  static constexpr int kRw = PROT_READ | PROT_WRITE;
  static constexpr int kFixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;

  std::size_t below(std::size_t limit) { return random_() % limit; }
  char* page(std::size_t bytes) { return arena_ + below((kArenaBytes - bytes) / kPageBytes) * kPageBytes; }
  char* huge_page() { return arena_ + below(kHuges) * kHuge; }
  std::size_t size() { return (1 + below(below(2) == 0 ? 16 : 300)) * kPageBytes; }

  // Only by the kernel's hand: a page may be read-only or not be there.
  void fill(char* at, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; i += kPageBytes) put(at + i);
  }
  void put(char* at) {
    std::uint64_t value[2] = {random_(), random_()};
    const iovec from{value, sizeof value};
    const iovec to{at + below(kPageBytes / 16) * 16, sizeof value};
    (void)::process_vm_writev(::getpid(), &from, 1, &to, 1, 0);
  }
  void write_somewhere() {
    char* const at = page(kPageBytes);
    if (below(4) == 0) {
      put(at);
      return;
    }
    // A plain store, where that is sure to be allowed: on the stack of this thread, on the heap.
    char on_stack[4 * kPageBytes];
    std::memset(on_stack + below(3) * kPageBytes, static_cast<int>(random_()), 64);
    asm volatile("" : : "r"(on_stack) : "memory");
    put(at);
  }

  // Moves memory over other memory; whole huge pages half of the time.
  void move() {
    const bool huge = below(2) == 0;
    const std::size_t bytes = huge ? kHuge : size();
    char* from = huge ? arena_ + below(kHuges / 2) * kHuge
                      : arena_ + below(kArenaBytes / 2 / kPageBytes - 300) * kPageBytes;
    char* to = from + kArenaBytes / 2;
    if (below(2) == 0) std::swap(from, to);
    if (::mremap(from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED) return;
    ::mmap(from, bytes, kRw, kFixed, -1, 0);
    if (below(2) == 0) fill(from, bytes);
  }

  void fork_child() {
    const pid_t child = ::fork();
    if (child == 0) {
      fill(arena_, size());
      ::usleep(static_cast<useconds_t>(below(20'000)));
      ::_exit(0);
    }
    fill(page(kHuge), kHuge);  // breaks the sharing of some
    if (child > 0) ::waitpid(child, nullptr, 0);
  }

  void change() {
    const std::size_t bytes = size();
    char* const at = page(bytes);
    switch (below(13)) {
      case 0: ::munmap(at, bytes); ::mmap(at, bytes, kRw, kFixed, -1, 0); break;
      case 1: ::mmap(at, bytes, kRw, kFixed, -1, 0); fill(at, bytes); break;
      case 2: ::madvise(at, bytes, MADV_DONTNEED); break;
      case 3: ::madvise(at, bytes, MADV_FREE); break;
      case 4: ::madvise(huge_page(), kHuge, below(3) == 0 ? MADV_NOHUGEPAGE : MADV_HUGEPAGE); break;
      case 5: ::madvise(huge_page(), kHuge, 25 /* MADV_COLLAPSE */); break;
      case 6: ::mprotect(at, bytes, below(2) == 0 ? PROT_READ : PROT_NONE); break;
      case 7: ::mprotect(arena_, kArenaBytes, kRw); break;
      case 8: if (below(4) == 0) fork_child(); break;
      case 9: ::madvise(at, bytes, 21 /* MADV_PAGEOUT */); break;
      case 10: grow(); break;
      case 11: grow_and_move(); break;
      default: move();
    }
  }

  // Heap and stack.
  void grow() {
    if (below(2) == 0) {
      void* const more = ::sbrk(static_cast<std::intptr_t>(below(64) * kPageBytes));
      if (more != reinterpret_cast<void*>(-1)) put(static_cast<char*>(::sbrk(0)) - kPageBytes);
      if (below(3) == 0) (void)::sbrk(-static_cast<std::intptr_t>(below(16) * kPageBytes));
      return;
    }
    deeper(static_cast<int>(below(40)));
  }
  int deeper(int levels) {
    volatile char frame[kPageBytes];
    frame[below(kPageBytes)] = static_cast<char>(random_());
    return levels == 0 ? frame[0] : deeper(levels - 1) + frame[1];
  }

  // To wherever the kernel finds room; what comes next may lie where it was.
  void grow_and_move() {
    constexpr std::size_t kStep = 16 * kPageBytes;
    if (wanderer_ == nullptr || wanderer_bytes_ > kHuge) {
      if (wanderer_ != nullptr) ::munmap(wanderer_, wanderer_bytes_);
      wanderer_bytes_ = 8 * kStep;
      wanderer_ = ::mmap(nullptr, wanderer_bytes_, kRw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    } else {
      wanderer_ = ::mremap(wanderer_, wanderer_bytes_, wanderer_bytes_ + kStep, MREMAP_MAYMOVE);
      wanderer_bytes_ += kStep;
    }
    if (wanderer_ == MAP_FAILED) {  // it lay in a hole of another arena, which was filled
      wanderer_ = nullptr;
      return;
    }
    fill(static_cast<char*>(wanderer_) + wanderer_bytes_ - 2 * kStep, 2 * kStep);
  }

  std::mt19937_64 random_;
  char* arena_;
  void* wanderer_ = nullptr;
  std::size_t wanderer_bytes_ = 0;
};

class Victim {
 public:
  explicit Victim(std::uint64_t seed) : pid_(::fork()) {
    if (pid_ == 0) {
      std::vector<std::thread> threads;
      for (unsigned i = 1; i < 3; ++i) threads.emplace_back([&, i] { Mess(seed * 8 + i).run(); });
      Mess(seed * 8).run();
    }
  }
  ~Victim() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  // True when it is still alive.
  [[nodiscard]] bool stop() const {
    int status = 0;
    ::kill(pid_, SIGSTOP);
    return ::waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status);
  }
  void go_on() const { ::kill(pid_, SIGCONT); }

 private:
  pid_t pid_;
};

bool read_page(pid_t pid, std::uint64_t address, std::string& out) {
  out.resize(kPageBytes);
  const iovec local{out.data(), kPageBytes};
  const iovec remote{reinterpret_cast<void*>(address), kPageBytes};
  if (::process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(kPageBytes)) return true;
  // PROT_NONE.
  std::unique_ptr<FILE, int (*)(FILE*)> memory(
      std::fopen(("/proc/" + std::to_string(pid) + "/mem").c_str(), "r"), std::fclose);
  return memory && ::fseeko(memory.get(), static_cast<off_t>(address), SEEK_SET) == 0 &&
         std::fread(out.data(), 1, kPageBytes, memory.get()) == kPageBytes;
}

// What the target has.
class Copy {
 public:
  explicit Copy(pid_t pid) : pid_(pid) {}
  // By several threads at once.
  void take(std::span<const PageRun> runs) {
    each_page(runs, [&](std::uint64_t address) {
      std::string bytes;
      const bool read = read_page(pid_, address, bytes);
      const std::lock_guard lock(mutex_);
      if (read) {
        pages_[address] = std::move(bytes);
      } else {
        pages_.erase(address);
      }
    });
  }
  void forget(std::span<const PageRun> runs) {
    each_page(runs, [&](std::uint64_t address) { pages_.erase(address); });
  }
  // The frozen process: pages that are clean, and those of them that are stale.
  void compare(const Survey& all, std::uint64_t& clean, std::string& stale) const {
    std::string now;
    auto written = all.written.begin();
    for (const PageRun& run : all.there) {
      for (std::uint64_t i = 0; i < run.pages; ++i) {
        const std::uint64_t address = run.address + i * kPageBytes;
        const auto ours = pages_.find(address);
        const auto is_before = [&](const PageRun& w) { return w.address + w.pages * kPageBytes <= address; };
        written = std::find_if_not(written, all.written.end(), is_before);
        const bool sent_now = written != all.written.end() && written->address <= address;
        if (sent_now || ours == pages_.end()) continue;
        ++clean;
        if (!read_page(pid_, address, now) || now != ours->second) stale += " " + std::to_string(address);
      }
    }
  }
  // What is not reported as being there must not be there: it would be missing at the target.
  [[nodiscard]] std::string missing(const std::vector<PageRun>& all,
                                    const std::vector<AddressRange>& mappings) const {
    constexpr std::uint64_t kShadow = 1ULL << 32;  // of a sanitizer, which has terabytes mapped
    std::string lost;
    std::size_t at = 0;
    for (const AddressRange& range : mappings) {
      if (range.end - range.start >= kShadow) continue;
      for (std::uint64_t address = range.start; address < range.end;) {
        while (at < all.size() && all[at].address + all[at].pages * kPageBytes <= address) ++at;
        const bool reported = at < all.size() && all[at].address <= address;
        std::uint64_t end = range.end;
        if (reported) {
          end = std::min(end, all[at].address + all[at].pages * kPageBytes);
        } else {
          if (at < all.size()) end = std::min(end, all[at].address);
          if (!is_zero(address, end)) lost += " " + std::to_string(address) + "-" + std::to_string(end);
        }
        address = end;
      }
    }
    return lost;
  }

 private:
  template <class Use>
  static void each_page(std::span<const PageRun> runs, Use use) {
    for (const PageRun& run : runs) {
      for (std::uint64_t i = 0; i < run.pages; ++i) use(run.address + i * kPageBytes);
    }
  }
  [[nodiscard]] bool is_zero(std::uint64_t start, std::uint64_t end) const {
    constexpr std::uint64_t kPart = 1U << 20;
    const std::string zeros(kPart, '\0');
    std::string bytes;
    for (; start < end; start += kPart) {
      bytes.resize(std::min(kPart, end - start));
      const iovec local{bytes.data(), bytes.size()};
      const iovec remote{reinterpret_cast<void*>(start), bytes.size()};
      const ssize_t n = ::process_vm_readv(pid_, &local, 1, &remote, 1, 0);
      if (n > 0 && std::memcmp(bytes.data(), zeros.data(), static_cast<std::size_t>(n)) != 0) return false;
    }
    return true;
  }

  pid_t pid_;
  std::mutex mutex_;
  std::map<std::uint64_t, std::string> pages_;
};

std::uint64_t number_from(const char* variable, std::uint64_t fallback) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? fallback : std::strtoull(text, nullptr, 10);
}

// As a migration does it, over two connections; a page may wait a little before it is read.
void send_round(DirtyTracker& tracker, PageHistory& history, bool hold_back, const std::vector<PageRun>& found,
                Copy& copy) {
  constexpr unsigned kShards = 2;
  RoundPages round(tracker, history, hold_back, found);
  std::atomic<std::uint64_t> wanted{round.wanted()};
  std::vector<RoundShard> shards;
  for (unsigned i = 0; i < kShards; ++i) shards.emplace_back(round, 1, i, kShards, wanted, SteadyClock::now());
  {
    std::vector<std::jthread> threads;
    for (RoundShard& shard : shards) {
      threads.emplace_back([&] {
        for (;;) {
          const auto runs = shard.next();
          ASSERT_TRUE(runs.has_value()) << runs.error().message;
          if (runs->empty()) return;
          copy.take(*runs);
        }
      });
    }
  }
  note_round(history, shards);
  for (const RoundShard& shard : shards) copy.forget(shard.held_back);
}

// One migration's worth of rounds. `clean` grows by the pages that would not be sent again.
void keep_copy(Tracking kind, std::uint64_t seed, std::uint64_t& clean) {
  const Victim victim(seed);
  ::usleep(100'000);
  auto tracker = DirtyTracker::attach(victim.pid(), kind);
  ASSERT_TRUE(tracker.has_value()) << tracker.error().message;
  Copy copy(victim.pid());
  PageHistory history;
  std::mt19937_64 random(seed);
  for (std::uint64_t round = 0, rounds = 2 + random() % 5; round < rounds; ++round) {
    ASSERT_TRUE(victim.stop());
    const auto refreshed = (*tracker)->refresh();
    ASSERT_TRUE(refreshed.has_value()) << refreshed.error().message;
    victim.go_on();
    const auto found = (*tracker)->look();
    ASSERT_TRUE(found.has_value()) << found.error().message;
    const bool hold_back = random() % 2 == 0;
    send_round(**tracker, history, hold_back, *found, copy);
    if (::testing::Test::HasFatalFailure()) return;
    ::usleep(static_cast<useconds_t>(random() % 20'000));
  }
  ASSERT_TRUE(victim.stop());
  const auto mappings = owned_mappings(victim.pid());
  ASSERT_TRUE(mappings.has_value()) << mappings.error().message;
  const auto all = (*tracker)->survey(*mappings);
  ASSERT_TRUE(all.has_value()) << all.error().message;
  std::string stale;
  copy.compare(*all, clean, stale);
  EXPECT_EQ(stale, "") << "stale pages with seed " << seed;
  EXPECT_EQ(copy.missing(all->there, *mappings), "") << "pages not reported with seed " << seed;
}

class TrackerStress : public ::testing::TestWithParam<Tracking> {};

TEST_P(TrackerStress, TheCopyIsTheMemory) {
  if (!can_track_writes(GetParam())) GTEST_SKIP() << "this kernel cannot track by " << to_string(GetParam());
  const auto end = Clock::now() + std::chrono::seconds(number_from("LIFEBOAT_STRESS_S", 2));
  std::uint64_t seed = number_from("LIFEBOAT_STRESS_SEED", 1);
  std::uint64_t clean = 0;
  std::uint64_t trials = 0;
  for (; trials < 1 || Clock::now() < end; ++trials, ++seed) {
    keep_copy(GetParam(), seed, clean);
    if (HasFailure()) return;
  }
  EXPECT_GT(clean, 0U) << "nothing was ever clean";
  RecordProperty("trials", static_cast<int>(trials));
  std::printf("   %llu migrations, %llu pages not sent again\n", static_cast<unsigned long long>(trials),
              static_cast<unsigned long long>(clean));
}

INSTANTIATE_TEST_SUITE_P(Backends, TrackerStress,
                         ::testing::Values(Tracking::kUserfaultfd, Tracking::kSoftDirty),
                         [](const auto& info) {
                           return info.param == Tracking::kUserfaultfd ? "Userfaultfd" : "SoftDirty";
                         });

}  // namespace
}  // namespace lifeboat
