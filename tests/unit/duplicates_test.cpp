// Which pages need not be sent, against a model of what the target holds.
#include "migration/duplicates.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace lifeboat {
namespace {

using page_stream::PageHash;
using page_stream::PagePlace;

// The last step of splitmix64.
std::uint64_t mixed(std::uint64_t number) {
  number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9;
  number = (number ^ (number >> 27)) * 0x94d049bb133111eb;
  return number ^ (number >> 31);
}

PageHash content(std::uint64_t number) { return {mixed(2 * number), mixed(2 * number + 1)}; }

PagePlace place(std::uint64_t page, std::uint32_t pid = 1) { return {pid, page * kPageBytes}; }

TEST(DuplicateIndex, FindsWhatWasSent) {
  DuplicateIndex index;
  EXPECT_EQ(index.next(content(1), place(1)), std::nullopt);
  EXPECT_EQ(index.next(content(1), place(2)), place(1));
  EXPECT_EQ(index.next(content(1), place(3, 2)), place(1));  // in another process
  EXPECT_EQ(index.next(content(1), place(1)), place(1));     // written, and the same as before
  EXPECT_EQ(index.next(content(2), place(4)), std::nullopt);
}

TEST(DuplicateIndex, AnOriginalThatIsOverwrittenIsNone) {
  DuplicateIndex index;
  EXPECT_EQ(index.next(content(1), place(1)), std::nullopt);
  EXPECT_EQ(index.next(content(2), place(1)), std::nullopt);  // by other content
  EXPECT_EQ(index.next(content(1), place(2)), std::nullopt);
  EXPECT_EQ(index.next(content(2), place(2)), place(1));  // by a duplicate
  EXPECT_EQ(index.next(content(1), place(3)), std::nullopt);
  index.zero(place(1));
  EXPECT_EQ(index.next(content(2), place(4)), std::nullopt);
}

// Whatever it says, the target has that content there. A small table, so that entries displace
// each other all the time.
TEST(DuplicateIndex, IsNeverWrong) {
  std::mt19937_64 random(5);
  DuplicateIndex index(64);
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint64_t> target;  // content by place
  std::uint64_t found = 0;
  for (int i = 0; i < 300'000; ++i) {
    const PagePlace here = place(random() % 500, static_cast<std::uint32_t>(1 + random() % 2));
    if (random() % 8 == 0) {
      index.zero(here);
      target[{here.pid, here.address}] = 0;
      continue;
    }
    const std::uint64_t what = 1 + random() % 100;
    if (const auto known = index.next(content(what), here)) {
      const auto at = target.find({known->pid, known->address});
      ASSERT_NE(at, target.end());
      ASSERT_EQ(at->second, what);
      ++found;
    }
    target[{here.pid, here.address}] = what;
  }
  EXPECT_GT(found, 10'000U);
}

TEST(DuplicateIndex, TurnsItselfOffAndLooksAgain) {
  constexpr std::uint64_t kWindow = DuplicateIndex::kWindowPages;
  DuplicateIndex index;
  std::uint64_t page = 0;
  const auto send = [&](std::uint64_t pages, std::uint64_t kinds) {
    std::uint64_t found = 0;
    for (std::uint64_t i = 0; i < pages; ++i, ++page) {
      const std::uint64_t what = kinds == 0 ? 1000 + page : page % kinds;
      found += index.next(content(what), place(page)) ? 1 : 0;
    }
    return found;
  };
  EXPECT_EQ(send(kWindow + 1, 0), 0U);
  EXPECT_FALSE(index.looking());
  // For a window at a time; the pauses grow.
  std::uint64_t looked = 0;
  for (int i = 0; i < 1000; ++i) {
    send(kWindow, 0);
    looked += index.looking() ? 1 : 0;
  }
  EXPECT_GE(looked, 10U);
  EXPECT_LE(looked, 40U);
  // Duplicates have come: found after a while, and from then on.
  send((DuplicateIndex::kPauseWindowsMax + 2) * kWindow, 10);
  EXPECT_TRUE(index.looking());
  EXPECT_EQ(send(4 * kWindow, 10), 4 * kWindow);
  index.end();
  EXPECT_EQ(send(200 * kWindow, 10), 0U);
}

}  // namespace
}  // namespace lifeboat
