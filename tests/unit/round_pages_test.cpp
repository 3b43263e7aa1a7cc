#include "migration/round_pages.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>

#include "criu_glue/page_store.hpp"

namespace lifeboat {
namespace {

constexpr std::uint64_t kBase = 1024 * kChunkBytes;

std::uint64_t page_at(std::uint64_t page) { return kBase + page * kPageBytes; }
PageRun run_at(std::uint64_t page, std::uint32_t pages) { return {page_at(page), pages}; }

// Memory that is written by the test.
class PlayedTracker : public DirtyTracker {
 public:
  PlayedTracker() : DirtyTracker(::getpid(), Pagemap::open(::getpid()).value()) {}

  void write(std::uint64_t page, std::uint32_t pages) {
    for (std::uint32_t i = 0; i < pages; ++i) written_.insert(page_at(page + i));
  }
  [[nodiscard]] std::size_t dirty() const { return written_.size(); }

  Status refresh() override { return {}; }
  Result<std::vector<PageRun>> look() override { return within({0, ~std::uint64_t{0}}); }
  Result<std::vector<PageRun>> collect(const AddressRange& range) override {
    collected.push_back(range.start);
    auto runs = within(range);
    std::erase_if(written_, [&](std::uint64_t page) { return page >= range.start && page < range.end; });
    return runs;
  }
  Result<std::vector<PageRun>> collect() override { return collect({0, ~std::uint64_t{0}}); }
  [[nodiscard]] Result<Survey> survey(const std::vector<AddressRange>&) const override { return Survey{}; }
  [[nodiscard]] Tracking kind() const override { return Tracking::kUserfaultfd; }

  std::vector<std::uint64_t> collected;

 private:
  [[nodiscard]] std::vector<PageRun> within(const AddressRange& range) const {
    std::vector<PageRun> runs;
    RunsOfMapping found(runs);
    for (const std::uint64_t page : written_) {
      if (page >= range.start && page < range.end) found.add(page, page + kPageBytes);
    }
    return runs;
  }
  std::set<std::uint64_t> written_;
};

struct Sent {
  std::vector<PageRun> runs;
  std::uint64_t resent = 0, held_back = 0;
  double page_seconds = 0;
};

std::uint64_t pages_of(const std::vector<PageRun>& runs) {
  std::uint64_t pages = 0;
  for (const PageRun& run : runs) pages += run.pages;
  return pages;
}

// One round over one connection. `between` is called before each call for pages.
Sent send_round(PlayedTracker& tracker, PageHistory& history, bool hold_back = false,
                const std::function<void()>& between = [] {}) {
  RoundPages round(tracker, history, hold_back, tracker.look().value());
  std::atomic<std::uint64_t> wanted{round.wanted()};
  std::vector<RoundShard> shards;
  shards.emplace_back(round, 1, 0, 1, wanted, SteadyClock::now());
  Sent sent;
  for (;;) {
    between();
    const auto runs = shards[0].next().value();
    if (runs.empty()) break;
    sent.runs.insert(sent.runs.end(), runs.begin(), runs.end());
  }
  EXPECT_EQ(wanted, shards[0].pages_sent);
  EXPECT_EQ(pages_of(sent.runs), shards[0].pages_sent);
  sent.resent = shards[0].pages_resent;
  sent.held_back = pages_of(shards[0].held_back);
  sent.page_seconds = shards[0].page_seconds;
  note_round(history, shards);
  return sent;
}

bool carries(const PageHistory& history, std::uint64_t page) {
  bool carried = false;
  history.carried.split(run_at(page, 1), [&](const PageRun&, bool in) { carried = in; });
  return carried;
}

TEST(RoundPages, ChunksAreSentFromTheTopDownEachUpwards) {
  PlayedTracker tracker;
  PageHistory history;
  tracker.write(10, 3);
  tracker.write(20, 1);
  tracker.write(2 * kChunkPages + 7, 2);
  tracker.write(5 * kChunkPages - 1, 2);  // across a border
  const Sent sent = send_round(tracker, history);
  const std::vector<PageRun> expected = {run_at(5 * kChunkPages, 1), run_at(5 * kChunkPages - 1, 1),
                                         run_at(2 * kChunkPages + 7, 2), run_at(10, 3), run_at(20, 1)};
  EXPECT_EQ(sent.runs, expected);
  EXPECT_EQ(tracker.dirty(), 0U);
}

// Each page is collected when its turn comes: what is written before that is clean afterwards.
TEST(RoundPages, WhatIsWrittenBeforeItsTurnGoesAlong) {
  PlayedTracker tracker;
  PageHistory history;
  tracker.write(0, 2 * kChunkPages);
  int call = 0;
  const Sent sent = send_round(tracker, history, false, [&] {
    if (++call != 2) return;
    // The upper chunk has been sent, the lower one not.
    tracker.write(0, 5);
    tracker.write(kChunkPages, 7);
  });
  EXPECT_EQ(pages_of(sent.runs), 2 * kChunkPages);
  EXPECT_EQ(tracker.dirty(), 7U);
}

TEST(RoundPages, ChunksWithoutWrittenPagesAreLeftAlone) {
  PlayedTracker tracker;
  PageHistory history;
  tracker.write(kChunkPages, 1);
  tracker.write(9 * kChunkPages, 1);
  send_round(tracker, history);
  EXPECT_EQ(tracker.collected, (std::vector<std::uint64_t>{page_at(9 * kChunkPages), page_at(kChunkPages)}));
}

// As many more pages as come along are to be sent.
TEST(RoundPages, WhatIsStillToBeSentIsCorrected) {
  PlayedTracker tracker;
  PageHistory history;
  tracker.write(0, 10);
  RoundPages round(tracker, history, false, tracker.look().value());
  std::atomic<std::uint64_t> wanted{round.wanted()};
  EXPECT_EQ(wanted, 10U);
  RoundShard shard(round, 1, 0, 1, wanted, SteadyClock::now());
  tracker.write(100, 5);
  EXPECT_EQ(shard.next().value().size(), 2U);
  EXPECT_EQ(wanted, 15U);
}

TEST(RoundPages, WhatIsWrittenInEveryRoundIsHeldBack) {
  PlayedTracker tracker;
  PageHistory history;
  tracker.write(0, 100);
  send_round(tracker, history);
  tracker.write(0, 10);
  EXPECT_EQ(send_round(tracker, history).resent, 10U);
  tracker.write(0, 4);
  tracker.write(50, 1);
  const Sent third = send_round(tracker, history, true);
  EXPECT_EQ(third.runs, std::vector<PageRun>{run_at(50, 1)});
  EXPECT_EQ(third.held_back, 4U);
  EXPECT_FALSE(carries(history, 0)) << "what is held back is to be sent in the end";
  EXPECT_TRUE(carries(history, 5));
  EXPECT_TRUE(carries(history, 50));
  // Part of it rests for a round: nobody but this round would send it before the freeze.
  tracker.write(1, 1);
  const Sent fourth = send_round(tracker, history, true);
  EXPECT_EQ(fourth.runs, (std::vector<PageRun>{run_at(0, 1), run_at(2, 2)}));
  EXPECT_EQ(fourth.held_back, 1U);
  EXPECT_TRUE(carries(history, 0));
  // It is hot no longer, and sent again as soon as it is written.
  tracker.write(0, 4);
  EXPECT_EQ(send_round(tracker, history, true).runs, (std::vector<PageRun>{run_at(0, 1), run_at(2, 2)}));
}

TEST(RoundPages, ConnectionsShareTheChunks) {
  PlayedTracker tracker;
  PageHistory history;
  constexpr unsigned kShards = 3;
  constexpr std::uint32_t kChunks = 40;
  tracker.write(0, kChunks * kChunkPages);
  RoundPages round(tracker, history, false, tracker.look().value());
  std::atomic<std::uint64_t> wanted{round.wanted()};
  std::map<std::uint64_t, unsigned> by;
  for (unsigned i = 0; i < kShards; ++i) {
    RoundShard shard(round, 7, i, kShards, wanted, SteadyClock::now());
    for (auto runs = shard.next().value(); !runs.empty(); runs = shard.next().value()) {
      for (const PageRun& run : runs) {
        EXPECT_EQ(shard_of(7, run.address, kShards), i);
        EXPECT_TRUE(by.emplace(run.address, i).second);
      }
    }
  }
  EXPECT_EQ(by.size(), kChunks);
  EXPECT_EQ(tracker.dirty(), 0U);
}

// Between collecting and reading stands the look for direct I/O: a large round does not look for each chunk.
TEST(RoundPages, AProcessWithDirectIoSendsNothing) {
  const std::string path = "/tmp/lifeboat-round-pages-" + std::to_string(::getpid());
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
  ::unlink(path.c_str());
  if (fd < 0) GTEST_SKIP() << "no direct I/O on /tmp";
  PlayedTracker tracker;
  PageHistory history;
  tracker.write(0, 64 * kChunkPages);
  RoundPages round(tracker, history, false, tracker.look().value());
  std::atomic<std::uint64_t> wanted{round.wanted()};
  RoundShard shard(round, 1, 0, 1, wanted, SteadyClock::now());
  EXPECT_TRUE(shard.next().value().empty());
  EXPECT_TRUE(round.direct_io);
  EXPECT_LE(tracker.collected.size(), 4U);
  RoundShard other(round, 1, 0, 1, wanted, SteadyClock::now());
  EXPECT_TRUE(other.next().value().empty()) << "nor by the other connections";
  ::close(fd);
}

TEST(RoundPages, TheTimeThatPagesWaitedIsSummed) {
  PlayedTracker tracker;
  PageHistory history;
  tracker.write(0, 2 * kChunkPages);
  int call = 0;
  const auto start = SteadyClock::now();
  double waited_s = 0;
  const Sent sent = send_round(tracker, history, false, [&] {
    if (++call != 2) return;
    ::usleep(20'000);
    waited_s = elapsed_ms(start) / 1000;
  });
  EXPECT_GE(sent.page_seconds, kChunkPages * 0.02);
  EXPECT_LE(sent.page_seconds, kChunkPages * (waited_s + 0.5));
}

}  // namespace
}  // namespace lifeboat
