// One limit over several connections.
#include "migration/bandwidth.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>

namespace lifeboat {
namespace {

class BandwidthShareTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};
  [[nodiscard]] std::uint64_t sum() const {
    return std::accumulate(rates_.begin(), rates_.end(), std::uint64_t{0});
  }
  std::vector<std::uint64_t> rates_{0, 0, 0};
  std::uint64_t allowed_ = kNone;  // no moment may have more
  BandwidthShare share_{3, [this](std::size_t i, std::uint64_t rate) {
                          rates_[i] = rate;
                          if (allowed_ == kNone) return;
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
  share_.busy(1, false);
  EXPECT_EQ(sum(), 90'000'000U);
  EXPECT_GT(rates_[0], 44'000'000U);
  EXPECT_GT(rates_[1], 0U);
  share_.busy(0, false);
  EXPECT_GT(rates_[2], 89'000'000U);
  share_.busy(2, false);
  share_.busy(1, true);
  EXPECT_GT(rates_[1], 89'000'000U);
  share_.busy(0, true);
  share_.busy(2, true);
  EXPECT_EQ(rates_[0], 30'000'000U);
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

}  // namespace
}  // namespace lifeboat
