// One limit over several connections.
#include "migration/bandwidth.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "migration/page_stream.hpp"
#include "tests/tcp_pair.hpp"

namespace lifeboat {
namespace {

class BandwidthShareTest : public ::testing::Test {
 protected:
  // Of those that have something to send.
  [[nodiscard]] std::uint64_t sum() const {
    std::uint64_t all = 0;
    for (std::size_t i = 0; i < rates_.size(); ++i) all += busy_[i] ? rates_[i] : 0;
    return all;
  }
  // Ends before the others get more, and begins after they got less.
  void set_busy(std::size_t connection, bool is) {
    if (!is) busy_[connection] = false;
    share_.busy(connection, is);
    busy_[connection] = is;
    EXPECT_LE(sum(), allowed_);
  }
  std::vector<std::uint64_t> rates_{0, 0, 0};
  std::vector<bool> busy_{true, true, true};
  std::uint64_t allowed_ = ~std::uint64_t{0};  // no moment may have more
  BandwidthShare share_{3, [this](std::size_t i, std::uint64_t rate) {
                          rates_[i] = rate;
                          EXPECT_LE(sum(), allowed_);
                        }};
};

TEST_F(BandwidthShareTest, TheSumIsTheLimit) {
  share_.limit(100'000'001);
  EXPECT_EQ(sum(), 100'000'001U);
  EXPECT_EQ(rates_[0], 33'333'334U);
  EXPECT_EQ(rates_[2], 33'333'333U);
  share_.limit(0);
  EXPECT_EQ(rates_, std::vector<std::uint64_t>(3, 0));
  share_.limit(1);
  for (const std::uint64_t rate : rates_) EXPECT_GE(rate, 1U);  // 0 would be no limit
}

TEST_F(BandwidthShareTest, WhoHasWorkGetsWhatTheOthersLeave) {
  share_.limit(90'000'000);
  allowed_ = 90'000'000;
  set_busy(1, false);
  EXPECT_EQ(rates_[0], 45'000'000U);
  set_busy(0, false);
  EXPECT_EQ(rates_[2], 90'000'000U);
  set_busy(2, false);
  EXPECT_EQ(rates_[2], 90'000'000U);  // and begins by it the next time
  set_busy(1, true);
  EXPECT_EQ(rates_[1], 90'000'000U);
  set_busy(0, true);
  set_busy(2, true);
  EXPECT_EQ(rates_, std::vector<std::uint64_t>(3, 30'000'000));
}

TEST_F(BandwidthShareTest, ALimitThatCameMeanwhileHoldsFromTheFirstByte) {
  set_busy(0, false);
  share_.limit(90'000'000);
  EXPECT_EQ(rates_[0], 0U);
  set_busy(0, true);
  EXPECT_EQ(rates_[0], 30'000'000U);
  set_busy(0, false);
  share_.limit(0);
  EXPECT_EQ(rates_[0], 0U);
}

TEST_F(BandwidthShareTest, AnyThreadAnyTime) {
  {
    std::jthread one([this] {
      for (unsigned i = 0; i < 10'000; ++i) share_.limit(1'000'000 + i);
    });
    std::jthread two([this] {
      for (unsigned i = 0; i < 10'000; ++i) share_.busy(1, i % 2 == 1);
    });
  }
  EXPECT_EQ(share_.limit(), 1'009'999U);
  EXPECT_EQ(sum(), 1'009'999U);
}

// A connection over the loopback, with a receiver: only TCP has a limit.
struct Connection {
  Connection(unsigned shard, const std::shared_ptr<PageBudget>& budget) : store(budget) {
    auto [ours, other] = tcp_pair();
    theirs = std::move(other);
    PageSender::Options options;
    options.shard = shard;
    options.shards = 2;
    options.compression = CompressionMode::kOff;
    options.duplicates = false;
    sender = std::make_unique<PageSender>(std::move(ours), options);
    thread = std::jthread([this, shard] { (void)PageReceiver(theirs, store, shard, 2).run(); });
  }
  ~Connection() { sender->cancel(); }

  PageStore store;
  PageSocket theirs;
  std::unique_ptr<PageSender> sender;
  std::jthread thread;
};

// As in a round of pre-copy: 8 MiB over one connection, 1 MiB over the other, at 3 MB/s in all: slow
// enough that what the machine itself takes does not count.
TEST(BandwidthOfAMigration, IsThatOfAllItsConnections) {
  constexpr std::uint64_t kRate = 3'000'000;
  constexpr std::uint64_t kMiB = 1U << 20;
  std::vector<unsigned char> memory(24 * kMiB, 1);
  const auto start_of = reinterpret_cast<std::uint64_t>(memory.data());
  std::vector<PageRun> runs[2];
  std::uint64_t left[2] = {8 * kMiB, kMiB};
  for (std::uint64_t at = (start_of / kMiB + 1) * kMiB; at < start_of + 23 * kMiB; at += kMiB) {
    const unsigned shard = shard_of(1, at, 2);
    if (left[shard] == 0) continue;
    runs[shard].push_back({at, kMiB / kPageBytes});
    left[shard] -= kMiB;
  }
  ASSERT_EQ(left[0] + left[1], 0U);
  const auto budget = std::make_shared<PageBudget>(64 * kMiB);
  Connection connections[] = {{0, budget}, {1, budget}};
  std::atomic<std::uint64_t> most{0};
  BandwidthShare share(2, [&](std::size_t i, std::uint64_t rate) {
    connections[i].sender->limit(rate);
    most = std::max(most.load(), rate);
  });
  share.limit(kRate);
  std::atomic<std::uint64_t> pages{0};
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        std::vector<PageRun> unread;
        const PageJob job{::getpid(), 1, runs[i]};
        auto sent = connections[i].sender->send(job, unread);
        if (sent && connections[i].sender->flush()) pages += sent->pages;
        share.busy(i, false);
      });
    }
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_EQ(pages, 9 * kMiB / kPageBytes);
  EXPECT_GE(took.count(), 0.8 * 9 * kMiB / kRate);
  EXPECT_EQ(most, kRate);  // the last one had all of it; how fast that is on a busy machine is no measure
}

}  // namespace
}  // namespace lifeboat
