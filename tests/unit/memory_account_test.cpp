// Free memory is promised once.
#include "memory_account.hpp"

#include <gtest/gtest.h>

#include <optional>

#include "migration/arrival_memory.hpp"

namespace lifeboat {
namespace {

constexpr std::uint64_t kGiB = 1U << 30;

TEST(MemoryAccount, TwoArrivalsDoNotGetTheSameBytes) {
  MemoryAccount account;
  auto first = account.reserve(3 * kGiB, 5 * kGiB);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->bytes(), 3 * kGiB);
  const auto second = account.reserve(3 * kGiB, 5 * kGiB);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Errc::kConflict);  // it may wait
  EXPECT_EQ(second.error().message,
            "not enough free memory: 3072 MiB needed for pages and images, 5120 MiB available, "
            "3072 MiB of that promised to other arrivals");
  EXPECT_TRUE(account.reserve(2 * kGiB, 5 * kGiB).has_value());
  EXPECT_EQ(account.promised(), 3 * kGiB);  // that one has ended
  *first = MemoryAccount::Reservation();
  EXPECT_EQ(account.promised(), 0U);
  EXPECT_TRUE(account.reserve(5 * kGiB, 5 * kGiB).has_value());
}

TEST(MemoryAccount, WhatIsNotThereAtAllIsRefused) {
  MemoryAccount account;
  const auto none = account.reserve(3 * kGiB, 2 * kGiB);
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, Errc::kRefused);
  EXPECT_EQ(none.error().message,
            "not enough free memory: 3072 MiB needed for pages and images, 2048 MiB available; free "
            "memory there or take another node (lifeboat nodes)");
  EXPECT_EQ(account.promised(), 0U);
}

TEST(MemoryAccount, ImagesAndRestoredMemoryAreThereAtOnce) {
  const ArrivalMemory pages = arrival_memory(4 * kGiB, true);
  EXPECT_EQ(pages.reserved, pages.received_max);
  EXPECT_GE(pages.received_max, 5 * kGiB);  // it may have grown since the offer
  const ArrivalMemory images = arrival_memory(4 * kGiB, false);
  EXPECT_EQ(images.reserved, images.received_max + 4 * kGiB);
}

TEST(MemoryAccount, WhatIsInUseIsNotCountedTwice) {
  MemoryAccount account;
  auto first = account.reserve(4 * kGiB, 8 * kGiB);
  ASSERT_TRUE(first.has_value());
  std::uint64_t used = kGiB;
  first->count_used_by([&used] { return used; });
  EXPECT_EQ(account.promised(), 3 * kGiB);
  EXPECT_FALSE(account.reserve(5 * kGiB, 7 * kGiB).has_value());
  EXPECT_TRUE(account.reserve(4 * kGiB, 7 * kGiB).has_value());
  used = 9 * kGiB;  // more than promised takes nothing from others
  EXPECT_EQ(account.promised(), 0U);
}

TEST(MemoryAccount, PromisesMoveAndMayOutliveTheAccount) {
  std::optional<MemoryAccount> account(std::in_place);
  MemoryAccount::Reservation kept;
  {
    auto made = account->reserve(kGiB, kGiB);
    ASSERT_TRUE(made.has_value());
    kept = std::move(*made);
  }
  EXPECT_EQ(account->promised(), kGiB);
  MemoryAccount::Reservation moved(std::move(kept));
  EXPECT_EQ(account->promised(), kGiB);
  account.reset();
  EXPECT_EQ(moved.bytes(), kGiB);
}

}  // namespace
}  // namespace lifeboat
