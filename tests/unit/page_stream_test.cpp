// Pages from a process over connections into stores: what arrives is what was there last.
#include "migration/page_stream.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "tests/tcp_pair.hpp"

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

  void open(unsigned shards, CompressionMode compression = CompressionMode::kOff, bool tcp = false) {
    for (unsigned shard = 0; shard < shards; ++shard) {
      int pair[2] = {-1, -1};
      if (tcp) {
        auto [ours, theirs] = tcp_pair();
        pair[0] = ours.release();
        pair[1] = theirs.release();
      } else {
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
      }
      PageSender::Options options;
      options.compression = compression;
      options.shard = shard;
      options.shards = shards;
      options.timeout_s = 5;
      senders_.push_back(std::make_unique<PageSender>(Fd(pair[0]), options));
      sockets_.push_back(std::make_unique<PageSocket>(Fd(pair[1])));
      stores_.push_back(std::make_unique<PageStore>(budget_));
      results_.push_back(std::make_unique<Status>());
    }
    for (unsigned shard = 0; shard < shards; ++shard) {
      threads_.emplace_back([this, shard, shards] {
        *results_[shard] = PageReceiver(*sockets_[shard], *stores_[shard], shard, shards).run();
        sockets_[shard]->shut_down(SHUT_RDWR);
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
      counts_ += counts;
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
  // Pages of random words, `kinds` different ones in turn; 0: all different.
  void fill(std::uint64_t first, std::uint64_t pages, std::uint64_t kinds, std::uint64_t seed) {
    for (std::uint64_t page = first; page < first + pages; ++page) {
      std::mt19937_64 random(seed + (kinds == 0 ? page : page % kinds));
      for (std::uint64_t at = 0; at < kPageBytes; at += 8) {
        const std::uint64_t word = random();
        std::memcpy(memory_ + page * kPageBytes + at, &word, 8);
      }
    }
  }
  // Words of which half are the same: shrinks by about that.
  void fill_compressible(std::uint64_t first, std::uint64_t pages) {
    fill(first, pages, 0, 1);
    for (std::uint64_t page = first; page < first + pages; ++page) {
      std::memset(memory_ + page * kPageBytes, 0x20, kPageBytes / 2);
    }
  }
  void expect_all_same() {
    for (std::uint64_t page = 0; page < kPages; ++page) expect_same(page);
  }
  void expect_orderly_end() {
    close();
    for (const auto& result : results_) {
      EXPECT_TRUE(result->has_value()) << result->error().message;
    }
  }

  SendCounts counts_;
  std::vector<PageRun> unread_;
  std::vector<std::unique_ptr<PageSender>> senders_;
  std::vector<std::unique_ptr<PageSocket>> sockets_;
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
        runs.push_back({address(page), count});
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
  const auto sent = send({{address(0), 16}});
  ASSERT_TRUE(sent.has_value()) << sent.error().message;
  EXPECT_EQ(*sent, 15U);  // memory without access is read all the same
  ASSERT_EQ(unread_.size(), 1U);
  EXPECT_EQ(unread_[0].address, address(4));
  EXPECT_EQ(unread_[0].pages, 1U);
  ASSERT_EQ(::mprotect(memory_ + 8 * kPageBytes, kPageBytes, PROT_READ | PROT_WRITE), 0);
  for (const std::uint64_t page : {0U, 3U, 5U, 8U, 15U}) expect_same(page);
  close();
}

TEST_F(PageStreamTest, CancelEndsWhatWaits) {
  open(1);
  senders_[0]->cancel();
  std::memset(memory_, 1, kBytes);
  const auto sent = send({{address(0), kPages}});
  ASSERT_FALSE(sent.has_value());
  EXPECT_EQ(sent.error().code, Errc::kCancelled);
  close();
}

TEST_F(PageStreamTest, CompressedPagesArrive) {
  for (const CompressionMode mode : {CompressionMode::kLz4, CompressionMode::kZstd}) {
    counts_ = SendCounts{};
    senders_.clear(), sockets_.clear(), stores_.clear(), results_.clear();
    fill_compressible(0, kPages / 2);
    fill(kPages / 2, kPages / 2, 0, 7);  // and half of them such as nothing can compress
    open(2, mode);
    ASSERT_TRUE(send({{address(), kPages}}).has_value());
    expect_all_same();
    EXPECT_GE(counts_.compressed_pages, kPages / 2 - 2 * 128);
    EXPECT_LE(counts_.compressed_pages, kPages / 2 + 4 * 128);
    EXPECT_EQ(counts_.raw_bytes, kBytes);
    EXPECT_LT(counts_.payload_bytes, kBytes * 8 / 10);
    EXPECT_GT(counts_.payload_bytes, kBytes / 2);
    expect_orderly_end();
  }
}

TEST_F(PageStreamTest, DuplicatesAreSentOnce) {
  fill(0, kPages, 10, 3);
  open(2);
  ASSERT_TRUE(send({{address(), kPages}}).has_value());
  expect_all_same();
  // Each connection sends each of the ten once.
  EXPECT_EQ(counts_.duplicate_pages, kPages - 20);
  EXPECT_LT(counts_.payload_bytes, kBytes / 50);
  expect_orderly_end();
}

TEST_F(PageStreamTest, AnUnchangedPageIsNotSentAgain) {
  fill(0, kPages, 0, 3);
  open(1);
  ASSERT_TRUE(send({{address(), 1000}}).has_value());
  EXPECT_EQ(counts_.duplicate_pages, 0U);
  ASSERT_TRUE(send({{address(), 1000}}).has_value());
  // Some have displaced others in the table of 131072.
  EXPECT_GE(counts_.duplicate_pages, 950U);
  for (std::uint64_t page = 0; page < 1000; ++page) expect_same(page);
  expect_orderly_end();
}

// The page that others were like has been overwritten, by others' content, by zeros, by its own.
TEST_F(PageStreamTest, AnOverwrittenOriginalIsNoSource) {
  std::mt19937_64 random(11);
  open(2, CompressionMode::kLz4);
  fill(0, kPages, 50, 100);
  ASSERT_TRUE(send({{address(), kPages}}).has_value());
  for (int round = 0; round < 20; ++round) {
    std::vector<PageRun> runs;
    for (std::uint64_t page = random() % 20; page < kPages; page += 1 + random() % 20) {
      const std::uint64_t from = random() % kPages;
      switch (random() % 4) {
        case 0: std::memset(memory_ + page * kPageBytes, 0, kPageBytes); break;
        case 1: fill(page, 1, 0, 1000 + random() % 20); break;
        default: std::memmove(memory_ + page * kPageBytes, memory_ + from * kPageBytes, kPageBytes);
      }
      runs.push_back({address(page), 1});
    }
    ASSERT_TRUE(send(runs).has_value());
    expect_all_same();
  }
  EXPECT_GT(counts_.duplicate_pages, kPages);
  expect_orderly_end();
}

TEST_F(PageStreamTest, NoDuplicatesAfterTheirEnd) {
  fill(0, kPages, 10, 3);
  open(1);
  senders_[0]->end_duplicates();
  ASSERT_TRUE(send({{address(), kPages}}).has_value());
  EXPECT_EQ(counts_.duplicate_pages, 0U);
  expect_all_same();
  expect_orderly_end();
}

// Random pages on a socket that is faster than any compression: nothing is compressed.
TEST_F(PageStreamTest, AutoLeavesAFastWireAlone) {
  fill(0, kPages, 0, 3);
  open(1, CompressionMode::kAuto);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(send({{address(), kPages}}).has_value());
  EXPECT_EQ(counts_.compressed_pages, 0U);
  expect_orderly_end();
}

// 10 MB/s in all, then no limit: the rate is kept at every moment, and a change is felt at once.
TEST_F(PageStreamTest, TheLimitHoldsAndCanBeChanged) {
  fill(0, kPages, 0, 3);
  open(1, CompressionMode::kOff, true);
  constexpr std::uint64_t kRate = 10'000'000;
  senders_[0]->limit(kRate);
  std::atomic<bool> sent{false};
  const auto start = std::chrono::steady_clock::now();
  std::jthread sending([&] { sent = send({{address(), 1024}}).has_value(); });
  sending.join();
  const std::chrono::duration<double> slow = std::chrono::steady_clock::now() - start;
  EXPECT_TRUE(sent);
  EXPECT_GE(slow.count(), 0.8 * 1024 * kPageBytes / kRate);
  // At a tenth of that the second half would take seconds; another thread lifts it meanwhile.
  senders_[0]->limit(kRate / 10);
  const auto changed = std::chrono::steady_clock::now();
  std::jthread again([&] { sent = send({{address(1024), 3072}}).has_value(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  senders_[0]->limit(0);
  again.join();
  const std::chrono::duration<double> lifted = std::chrono::steady_clock::now() - changed;
  EXPECT_TRUE(sent);
  EXPECT_LT(lifted.count(), 3072 * kPageBytes / (kRate / 10.0) / 2);
  expect_all_same();
  expect_orderly_end();
}

// What is told of the progress adds up to what is returned.
TEST_F(PageStreamTest, ProgressIsToldPerBatch) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  fill(0, kPages, 10, 3);
  SendCounts told;
  unsigned times = 0;
  PageSender::Options options;
  options.on_sent = [&](const SendCounts& sent) {
    told += sent;
    ++times;
    EXPECT_LE(sent.pages, 128U);
  };
  PageSender sender(Fd(pair[0]), options);
  PageSocket theirs{Fd(pair[1])};
  PageStore store(budget_);
  Status result;
  std::jthread receiving([&] { result = PageReceiver(theirs, store, 0, 1).run(); });
  const std::vector<PageRun> runs{{address(), kPages}};
  const PageJob job{::getpid(), kPid, runs};
  const auto sent = sender.send(job, unread_);
  ASSERT_TRUE(sent.has_value());
  EXPECT_TRUE(sender.flush().has_value());
  EXPECT_EQ(told.pages, kPages);
  EXPECT_EQ(told.pages, sent->pages);
  EXPECT_EQ(told.duplicate_pages, kPages - 10);
  EXPECT_EQ(told.payload_bytes, sent->payload_bytes);
  EXPECT_GE(times, kPages / 128);
  sender.cancel();
}

TEST(PageReceiver, GarbageIsRefused) {
  std::mt19937_64 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    Fd ours(pair[0]);
    PageSocket theirs{Fd(pair[1])};
    std::vector<unsigned char> bytes(400);
    for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
    // Half of them with a header that begins well.
    if (trial % 2 == 0) {
      std::memcpy(bytes.data(), "LBP2", 4);
      std::memset(bytes.data() + 4, 0, 4);
      bytes[4] = static_cast<unsigned char>(1 + trial / 2 % 5);
    }
    ASSERT_EQ(::write(ours.get(), bytes.data(), bytes.size()), 400);
    ours.reset();
    PageStore store(std::make_shared<PageBudget>(1 << 20));
    EXPECT_FALSE(PageReceiver(theirs, store, 0, 1).run().has_value());
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
  EXPECT_TRUE(store.place(1, 0, 4).has_value()) << "a page that is there can come again";
  EXPECT_NE(store.find(1, 3 * kPageBytes), nullptr);
  EXPECT_EQ(store.find(1, 4 * kPageBytes), nullptr);
  EXPECT_EQ(store.find(1, 3 * kPageBytes + 8), nullptr);
  EXPECT_EQ(store.find(2, 0), nullptr);
  ASSERT_TRUE(store.mark_zero(1, 0, 4).has_value());
  EXPECT_EQ(store.find(1, 0), nullptr);
  EXPECT_EQ(store.bytes(), 0U);
  EXPECT_TRUE(other.place(1, 0, 4).has_value());
  EXPECT_FALSE(store.place(1, kChunkBytes - kPageBytes, 2).has_value());  // across a border
}

}  // namespace
}  // namespace lifeboat
