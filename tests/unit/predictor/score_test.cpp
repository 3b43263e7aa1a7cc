#include "predictor/evaluate/score.hpp"

#include <gtest/gtest.h>

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

const Time kStart{Duration(1'700'000'000'000'000)};

TEST(Score, CountsRightWrongAndLateEpisodes) {
  UnitTrace unit{"n1", kStart, {}, {}};
  unit.samples = {{kStart + 1h, 0.9F}, {kStart + 100h, 0.9F}, {kStart + 300h, 0.9F}};
  unit.outages = {{kStart + 5h, kStart + 6h, "Hardware"},         // right, lead 4 h
                  {kStart + 300h + 10s, kStart + 301h, "Other"}};  // late
  const Window window{kStart, kStart + 1000h};
  const Score result = score({&unit}, {{Time{}, {0.5, 0.5, 24h}}}, window, 120s, 24h);
  EXPECT_EQ(result.failures, 2);
  EXPECT_EQ(result.right, 1);
  EXPECT_EQ(result.wrong, 2);
  EXPECT_EQ(result.late, 1);
  EXPECT_DOUBLE_EQ(result.lead(0.5), 4 * 3600.0);
  EXPECT_DOUBLE_EQ(result.precision(), 1.0 / 3);
  EXPECT_DOUBLE_EQ(result.recall(), 0.5);
  EXPECT_DOUBLE_EQ(result.degraded_seconds, 28 * 3600.0 + 10);
}

TEST(Score, AnEpisodeStillOpenAtTheEndIsNotCounted) {
  UnitTrace unit{"n1", kStart, {{kStart + 90h, 0.9F}}, {}};
  const Score result =
      score({&unit}, {{Time{}, {0.5, 0.5, 24h}}}, {kStart, kStart + 100h}, 120s, 24h);
  EXPECT_EQ(result.right + result.wrong, 0);
  EXPECT_DOUBLE_EQ(result.degraded_share(), 0.1);
}

}  // namespace
}  // namespace lifeboat::predictor
