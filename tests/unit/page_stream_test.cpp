// Pages from a process over connections into stores: what arrives is what was there last.
#include "migration/page_stream.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>

namespace lifeboat {
namespace {

constexpr std::uint32_t kPid = 5;
constexpr std::uint64_t kStoreMax = 256U << 20;

class PageStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    memory_ = static_cast<unsigned char*>(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(memory_, MAP_FAILED);
  }
  void TearDown() override { ::munmap(memory_, kBytes); }

  void open(unsigned shards) {
    for (unsigned shard = 0; shard < shards; ++shard) {
      int pair[2];
      ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
      PageSender::Options options;
      options.shard = shard;
      options.shards = shards;
      options.timeout_s = 5;
      senders_.push_back(std::make_unique<PageSender>(Fd(pair[0]), options));
      sockets_.push_back(std::make_unique<Fd>(pair[1]));
      stores_.push_back(std::make_unique<PageStore>(budget_));
      results_.push_back(std::make_unique<Status>());
    }
    for (unsigned shard = 0; shard < shards; ++shard) {
      threads_.emplace_back([this, shard, shards] {
        *results_[shard] = PageReceiver(sockets_[shard]->get(), *stores_[shard], shard, shards).run();
        ::shutdown(sockets_[shard]->get(), SHUT_RDWR);
      });
    }
  }
  void close() {
    senders_.clear();
    threads_.clear();  // joins
  }

  [[nodiscard]] std::uint64_t address(std::uint64_t page = 0) const {
    return reinterpret_cast<std::uint64_t>(memory_) + page * kPageBytes;
  }
  Result<std::uint64_t> send(const std::vector<PageRun>& runs) {
    std::uint64_t pages = 0;
    for (const auto& sender : senders_) {
      PageJob job;
      job.host_pid = ::getpid();
      job.pid = kPid;
      job.runs = runs;
      TRY(const SendCounts counts, sender->send(job, unread_));
      CHECK_OK(sender->flush());
      pages += counts.pages;
    }
    return pages;
  }
  // What the target has for a page: its bytes, or null for zeros.
  const unsigned char* stored(std::uint64_t page) {
    const std::uint64_t where = address(page);
    const unsigned shard = shard_of(kPid, where, static_cast<unsigned>(stores_.size()));
    const auto at = stores_[shard]->chunks().find({kPid, where / kChunkBytes * kChunkBytes});
    EXPECT_NE(at, stores_[shard]->chunks().end());
    const std::uint64_t index = where % kChunkBytes / kPageBytes;
    EXPECT_TRUE(at->second.data[index] != at->second.zero[index]);
    return at->second.data[index] ? at->second.memory + index * kPageBytes : nullptr;
  }
  void expect_same(std::uint64_t page) {
    const unsigned char* bytes = stored(page);
    static const unsigned char kZeros[kPageBytes] = {};
    EXPECT_EQ(std::memcmp(bytes == nullptr ? kZeros : bytes, memory_ + page * kPageBytes, kPageBytes),
              0)
        << page;
  }

  static constexpr std::uint64_t kPages = 4096;
  static constexpr std::uint64_t kBytes = kPages * kPageBytes;
  unsigned char* memory_ = nullptr;
  std::shared_ptr<PageBudget> budget_ = std::make_shared<PageBudget>(kStoreMax);
  std::vector<PageRun> unread_;
  std::vector<std::unique_ptr<PageSender>> senders_;
  std::vector<std::unique_ptr<Fd>> sockets_;
  std::vector<std::unique_ptr<PageStore>> stores_;
  std::vector<std::unique_ptr<Status>> results_;
  std::vector<std::jthread> threads_;
};

TEST_F(PageStreamTest, TheNewestVersionOfEveryPageArrives) {
  std::mt19937_64 random(1);
  open(3);
  for (int round = 0; round < 5; ++round) {
    std::vector<PageRun> runs;
    for (std::uint64_t page = 0; page < kPages;) {
      const auto count = static_cast<std::uint32_t>(
          std::min<std::uint64_t>(kPages - page, 1 + random() % 300));
      if (round == 0 || random() % 2 == 0) {
        for (std::uint64_t i = page; i < page + count; ++i) {
          const bool zero = random() % 4 == 0;
          std::memset(memory_ + i * kPageBytes, 0, kPageBytes);
          if (!zero) {
            for (int n = 0; n < 8; ++n) {
              memory_[i * kPageBytes + random() % kPageBytes] =
                  static_cast<unsigned char>(1 + random() % 255);
            }
          }
        }
        runs.push_back({address(page), count, true});
      }
      page += count;
    }
    const auto sent = send(runs);
    ASSERT_TRUE(sent.has_value()) << sent.error().message;
    for (std::uint64_t page = 0; page < kPages; ++page) expect_same(page);
  }
  EXPECT_TRUE(unread_.empty());
  close();
  for (const auto& result : results_) EXPECT_TRUE(result->has_value());
}

TEST_F(PageStreamTest, WhatCannotBeReadIsSaid) {
  std::memset(memory_, 7, 16 * kPageBytes);
  ASSERT_EQ(::munmap(memory_ + 4 * kPageBytes, kPageBytes), 0);
  ASSERT_EQ(::mprotect(memory_ + 8 * kPageBytes, kPageBytes, PROT_NONE), 0);
  open(1);
  const auto sent = send({{address(0), 16, true}});
  ASSERT_TRUE(sent.has_value()) << sent.error().message;
  EXPECT_EQ(*sent, 15U);  // memory without access is read all the same
  ASSERT_EQ(unread_.size(), 1U);
  EXPECT_EQ(unread_[0].address, address(4));
  EXPECT_EQ(unread_[0].pages, 1U);
  ASSERT_EQ(::mprotect(memory_ + 8 * kPageBytes, kPageBytes, PROT_READ | PROT_WRITE), 0);
  for (const std::uint64_t page : {0, 3, 5, 8, 15}) expect_same(page);
  close();
}

TEST_F(PageStreamTest, CancelEndsWhatWaits) {
  open(1);
  senders_[0]->cancel();
  std::memset(memory_, 1, kBytes);
  const auto sent = send({{address(0), kPages, true}});
  ASSERT_FALSE(sent.has_value());
  EXPECT_EQ(sent.error().code, Errc::kCancelled);
  close();
}

TEST(PageReceiver, GarbageIsRefused) {
  std::mt19937_64 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    Fd ours(pair[0]);
    const Fd theirs(pair[1]);
    std::vector<unsigned char> bytes(400);
    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
    // Half of them with a header that begins well.
    if (trial % 2 == 0) {
      std::memcpy(bytes.data(), "LBP1", 4);
      std::memset(bytes.data() + 4, 0, 4);
      bytes[4] = static_cast<unsigned char>(1 + trial / 2 % 4);
    }
    ASSERT_EQ(::write(ours.get(), bytes.data(), bytes.size()), 400);
    ours.reset();
    PageStore store(std::make_shared<PageBudget>(1 << 20));
    EXPECT_FALSE(PageReceiver(theirs.get(), store, 0, 1).run().has_value());
    EXPECT_EQ(store.bytes(), 0U);
  }
}

TEST(PageStore, HoldsNoMoreThanWasReserved) {
  const auto budget = std::make_shared<PageBudget>(4 * kPageBytes);
  PageStore store(budget);
  PageStore other(budget);
  ASSERT_TRUE(store.place(1, 0, 4).has_value());
  store.mark_data(1, 0, 4);
  const auto more = store.place(1, 64 * kPageBytes, 1);
  ASSERT_FALSE(more.has_value());
  EXPECT_EQ(more.error().code, Errc::kRefused);
  EXPECT_FALSE(other.place(1, 0, 1).has_value()) << "each store has a budget of its own";
  ASSERT_TRUE(store.mark_zero(1, 0, 4).has_value());
  EXPECT_EQ(store.bytes(), 0U);
  EXPECT_TRUE(other.place(1, 0, 4).has_value());
  EXPECT_FALSE(store.place(1, kChunkBytes - kPageBytes, 2).has_value());  // across a border
}

}  // namespace
}  // namespace lifeboat
