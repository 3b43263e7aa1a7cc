#include "predictor/evaluate/score.hpp"

#include <gtest/gtest.h>

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

const Time kStart{Duration(1'700'000'000'000'000)};

TEST(Score, CountsRightWrongAndLateEpisodes) {
  UnitTrace unit{"n1", kStart, {}, {}};
  unit.samples = {{kStart + 1h, 0.9F, false}, {kStart + 100h, 0.9F, false}, {kStart + 300h, 0.9F, false}};
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
  UnitTrace unit{"n1", kStart, {{kStart + 90h, 0.9F, false}}, {}};
  const Score result =
      score({&unit}, {{Time{}, {0.5, 0.5, 24h}}}, {kStart, kStart + 100h}, 120s, 24h);
  EXPECT_EQ(result.right + result.wrong, 0);
  EXPECT_DOUBLE_EQ(result.degraded_share(), 0.1);
}

// Units that fail again two days after each repair; the risk says nothing.
std::vector<UnitTrace> failing_again() {
  std::vector<UnitTrace> units;
  for (int n = 0; n < 3; ++n) {
    UnitTrace unit{"n" + std::to_string(n), kStart, {}, {}};
    Time time = kStart + 24h * (n + 1);
    for (int failure = 0; failure < 4; ++failure) {
      unit.outages.push_back({time, time + 1h, "Hardware"});
      unit.samples.push_back({time + 1h, 0.02F, true});
      time += 48h;
    }
    unit.samples.push_back({time + 500h, 0.02F, false});
    units.push_back(std::move(unit));
  }
  return units;
}

TEST(ChoosePolicies, TakesTheTemporalRuleWhereTheRiskSaysNothing) {
  const std::vector<UnitTrace> traces = failing_again();
  const std::vector<const UnitTrace*> units{&traces[0], &traces[1], &traces[2]};
  const Window window{kStart, kStart + 2000h};
  const Score rule = score_temporal(units, 72h, window, 120s);
  ASSERT_GT(rule.right, 0);
  const std::vector<AlarmPolicy> chosen =
      choose_policies(units, 72h, window, 120s, {{0, rule.degraded_share(), rule.f1()}});
  EXPECT_TRUE(chosen[0].after_repair);
  const Score tested = score(units, {{Time{}, chosen[0]}}, window, 120s, 72h);
  EXPECT_DOUBLE_EQ(tested.f1(), rule.f1());
  EXPECT_DOUBLE_EQ(tested.f1_within(), rule.f1());
}

TEST(ChoosePolicies, LongEpisodesDoNotMakeUpForFailuresSeenTooEarly) {
  // A risk that stays for weeks before the failure: right, but not within the window.
  UnitTrace unit{"n1", kStart, {}, {}};
  for (int day = 1; day < 30; ++day) unit.samples.push_back({kStart + 24h * day, 0.9F, false});
  unit.outages = {{kStart + 24h * 29 + 12h, kStart + 24h * 30, "Hardware"}};
  const Window window{kStart, kStart + 24h * 60};
  const Score early = score({&unit}, {{Time{}, {0.5, 0.5, 48h}}}, window, 120s, 48h);
  EXPECT_EQ(early.right, 1);
  EXPECT_EQ(early.f1_within(), 0);
  const std::vector<AlarmPolicy> chosen =
      choose_policies({&unit}, 48h, window, 120s, {{0, 1, 0.1}});
  EXPECT_GT(chosen[0].on, 1);  // never
}

TEST(ChoosePolicies, HoldsOnAfterARepairWhileTheRiskStays) {
  // It fails five days after each repair; the rule lets go after three.
  UnitTrace unit{"n1", kStart, {}, {}};
  Time time = kStart + 24h;
  for (int failure = 0; failure < 5; ++failure) {
    unit.outages.push_back({time, time + 1h, "Hardware"});
    unit.samples.push_back({time + 1h, 0.02F, true});
    for (int day = 1; day < 5; ++day) unit.samples.push_back({time + 24h * day, 0.3F, false});
    time += 24h * 5;
  }
  const Window window{kStart, kStart + 24h * 25};
  const Score rule = score_temporal({&unit}, 72h, window, 120s);
  EXPECT_EQ(rule.right, 0);
  const std::vector<AlarmPolicy> chosen = choose_policies({&unit}, 72h, window, 120s, {{0, 1, 0.9}});
  EXPECT_TRUE(chosen[0].after_repair);
  EXPECT_EQ(score({&unit}, {{Time{}, chosen[0]}}, window, 120s, 72h).right, 4);
}

}  // namespace
}  // namespace lifeboat::predictor
