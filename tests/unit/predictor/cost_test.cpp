// The cost model against the figures that its authors' formulas give, and the score of a trace
// whose numbers can be counted on one's fingers.
#include "predictor/evaluate/cost.hpp"

#include <gtest/gtest.h>

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

// A job on one node that fails once a day; 100 failures.
Score daily(double recall, double precision) {
  Score score;
  score.failures = 100;
  score.unit_seconds = 100 * 86400.0;
  score.right = 100 * recall;
  score.wrong = recall > 0 ? score.right / precision - score.right : 0;
  return score;
}

CostModel one_node() {
  CostModel model;  // C 5 min, D 10 min, R 5 min, M 30 s
  model.job_nodes = 1;
  return model;
}

TEST(Cost, WithoutPredictorItIsYoungsWaste) {
  // T = sqrt(2 mu C) = 2 h: 300 / 7200 + (3600 + 600 + 300) / 86400.
  const Savings none = savings(one_node(), daily(0, 1));
  EXPECT_DOUBLE_EQ(none.waste_without, 0.09375);
  EXPECT_DOUBLE_EQ(none.waste_with, 0.09375);
  EXPECT_DOUBLE_EQ(none.node_hours, 0);
}

TEST(Cost, WithPredictorItIsTheWorkedFigure) {
  struct Figure {
    double recall, precision, waste;
  };
  // Recall and precision are rounded in these figures: two hundredths of a percent.
  for (const Figure& figure : {Figure{.20, .21, .0831}, Figure{.07, .60, .0902},
                               Figure{.52, .53, .0629}, Figure{.84, .71, .0356}}) {
    EXPECT_NEAR(savings(one_node(), daily(figure.recall, figure.precision)).waste_with,
                figure.waste, 0.00025)
        << figure.recall;
  }
}

TEST(Cost, BreaksEvenWherePrecisionIsTheStallOverTheLoss) {
  // M / (T / 2 + D + R) = 30 / 4500 = 0.0067.
  EXPECT_LT(savings(one_node(), daily(0.01, 0.0062)).node_hours, 0);
  EXPECT_GT(savings(one_node(), daily(0.01, 0.0072)).node_hours, 0);
}

TEST(Cost, DegradedNodesThatAreNoSparesCost) {
  Score score = daily(0.5, 0.5);
  score.degraded_seconds = 0.1 * score.unit_seconds;
  CostModel model = one_node();
  const double free = savings(model, score).node_hours;
  model.spare = 0.25;
  const Savings paid = savings(model, score);
  EXPECT_DOUBLE_EQ(paid.quarantine, 0.075);
  EXPECT_NEAR(free - paid.node_hours, 0.075 * 2400, 1e-9);
}

TEST(Cost, ScoreOfATraceThatCanBeCounted) {
  const Time start{Duration(1'000'000'000'000'000)};
  UnitTrace unit{"n1", start, {}, {}};
  unit.samples = {{start + 24h, 0.9F}, {start + 5 * 24h, 0.9F}, {start + 15 * 24h, 0.9F}};
  unit.outages = {{start + 10 * 24h, start + 11 * 24h, "Hardware"}};
  const Score result = score({&unit}, {{Time{}, {0.5, 0.5, 7 * 24h}}},
                             {start, start + 31 * 24h}, 120s, 7 * 24h);
  EXPECT_EQ(result.failures, 1);
  EXPECT_EQ(result.right, 1);   // days 1 to 10: the second alert prolongs the first
  EXPECT_EQ(result.wrong, 1);   // days 15 to 22
  EXPECT_EQ(result.beyond, 1);  // nine days are more than seven
  EXPECT_DOUBLE_EQ(result.lead(0.5), 9 * 86400.0);
  EXPECT_DOUBLE_EQ(result.precision(), 0.5);
  EXPECT_DOUBLE_EQ(result.recall(), 1);
  EXPECT_DOUBLE_EQ(result.f1(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(result.f1_within(), 0);
  EXPECT_DOUBLE_EQ(result.unit_seconds, 30 * 86400.0);  // 31 days less one of repair
  EXPECT_DOUBLE_EQ(result.degraded_share(), 16.0 / 30);
  EXPECT_DOUBLE_EQ(result.false_alarms_per_month(), 1);
  EXPECT_DOUBLE_EQ(result.lift(), 30.0 / 16);
}

}  // namespace
}  // namespace lifeboat::predictor
