// The text that Prometheus reads, and what a node counts.
#include "metrics.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "node_metrics.hpp"

namespace lifeboat {
namespace {

using metrics::Histogram;
using metrics::Page;
using metrics::Type;

TEST(MetricsPage, FamiliesAndSamples) {
  Page page;
  page.counter("a_total", "How many.", 3);
  page.family("b_bytes", Type::kGauge, "By kind.");
  page.sample({{"kind", "x"}, {"side", "y"}}, 0.25);
  page.sample({}, 1234567890);
  EXPECT_EQ(page.text(),
            "# HELP a_total How many.\n# TYPE a_total counter\na_total 3\n"
            "# HELP b_bytes By kind.\n# TYPE b_bytes gauge\n"
            "b_bytes{kind=\"x\",side=\"y\"} 0.25\nb_bytes 1234567890\n");
}

TEST(MetricsPage, WhatWouldBreakTheTextIsEscaped) {
  Page page;
  page.family("a", Type::kGauge, "back\\slash,\nbreak, \"quotes\"");
  page.sample({{"l", "back\\slash,\nbreak, \"quotes\""}}, 1);
  EXPECT_EQ(page.text(),
            "# HELP a back\\\\slash,\\nbreak, \"quotes\"\n# TYPE a gauge\n"
            "a{l=\"back\\\\slash,\\nbreak, \\\"quotes\\\"\"} 1\n");
}

TEST(MetricsPage, NumbersReadBackAsTheyWere) {
  const auto shown = [](double value) {
    Page page;
    page.sample({}, value);
    return page.text();
  };
  EXPECT_EQ(shown(0), " 0\n");
  EXPECT_EQ(shown(-1), " -1\n");
  EXPECT_EQ(shown(0.1), " 0.1\n");
  EXPECT_EQ(shown(1e14), " 100000000000000\n");
  EXPECT_EQ(shown(1e20), " 1e+20\n");
  EXPECT_EQ(shown(std::numeric_limits<double>::infinity()), " +Inf\n");
  EXPECT_EQ(shown(-std::numeric_limits<double>::infinity()), " -Inf\n");
  EXPECT_EQ(shown(std::numeric_limits<double>::quiet_NaN()), " NaN\n");
}

TEST(MetricsPage, BucketsOfAHistogramAddUp) {
  Histogram histogram({0.5, 1});
  for (const double value : {0.25, 0.5, 0.75, 8.0}) histogram.observe(value);
  Page page;
  page.family("a_seconds", Type::kHistogram, "Time.");
  page.sample({{"mode", "m"}}, histogram);
  EXPECT_EQ(page.text(),
            "# HELP a_seconds Time.\n# TYPE a_seconds histogram\n"
            "a_seconds_bucket{mode=\"m\",le=\"0.5\"} 2\n"
            "a_seconds_bucket{mode=\"m\",le=\"1\"} 3\n"
            "a_seconds_bucket{mode=\"m\",le=\"+Inf\"} 4\n"
            "a_seconds_sum{mode=\"m\"} 9.5\na_seconds_count{mode=\"m\"} 4\n");
}

std::string text_of(const NodeMetrics& counted) {
  Page page;
  counted.add_to(page);
  return page.text();
}

bool has(const NodeMetrics& counted, const std::string& line) {
  return text_of(counted).find("\n" + line + "\n") != std::string::npos;
}

std::shared_ptr<MigrationReport> migration(MigrationMode mode) {
  auto report = std::make_shared<MigrationReport>();
  report->mode = mode;
  report->phase = "queued";
  return report;
}

TEST(NodeMetrics, AMigrationCountsOnceWhenItIsOver) {
  NodeMetrics counted;
  const auto report = migration(MigrationMode::kPreCopy);
  counted.migration_began(report);
  EXPECT_TRUE(has(counted, "lifeboat_migrations_queued 1"));
  report->phase = "pre-copy";
  report->progress->bytes_sent.add(4096);
  report->rounds.resize(2);
  EXPECT_TRUE(has(counted, "lifeboat_migrations_running 1"));
  EXPECT_TRUE(has(counted, "lifeboat_migration_sent_bytes_total 4096"));
  EXPECT_TRUE(has(counted, "lifeboat_precopy_rounds_total 2"));
  report->outcome = Outcome::kCommitted;
  report->bytes_sent = 5000;
  report->times.downtime = 42;
  report->times.total = 1500;
  counted.migration_ended(report);
  counted.migration_ended(report);  // nothing any more
  EXPECT_TRUE(has(counted, "lifeboat_migrations_running 0"));
  EXPECT_TRUE(has(counted, "lifeboat_migration_sent_bytes_total 5000"));
  EXPECT_TRUE(has(counted, "lifeboat_migrations_total{mode=\"pre-copy\",outcome=\"committed\"} 1"));
  EXPECT_TRUE(has(counted, "lifeboat_migration_downtime_seconds_bucket{mode=\"pre-copy\",le=\"0.02\"} 0"));
  EXPECT_TRUE(has(counted, "lifeboat_migration_downtime_seconds_bucket{mode=\"pre-copy\",le=\"0.05\"} 1"));
  EXPECT_TRUE(has(counted, "lifeboat_migration_duration_seconds_sum{mode=\"pre-copy\"} 1.5"));
}

TEST(NodeMetrics, AbortedOnRequestIsNotFailed) {
  NodeMetrics counted;
  const auto cancelled = migration(MigrationMode::kStopAndCopy);
  const auto broken = migration(MigrationMode::kStopAndCopy);
  for (const auto& report : {cancelled, broken}) {
    counted.migration_began(report);
    report->outcome = Outcome::kAborted;
  }
  ASSERT_TRUE(cancelled->cancellation.request("an operator"));
  counted.migration_ended(cancelled);
  counted.migration_ended(broken);
  EXPECT_TRUE(has(counted, "lifeboat_migrations_total{mode=\"stop-and-copy\",outcome=\"aborted\"} 1"));
  EXPECT_TRUE(has(counted, "lifeboat_migrations_total{mode=\"stop-and-copy\",outcome=\"failed\"} 1"));
  EXPECT_TRUE(has(counted, "lifeboat_migration_downtime_seconds_count{mode=\"stop-and-copy\"} 0"));
}

TEST(NodeMetrics, TheRegistryIsUpWhenItAnswers) {
  NodeMetrics counted;
  EXPECT_TRUE(has(counted, "lifeboat_registry_up 0"));
  counted.registry_called(RegistryCall::kGet, 0.003, true);
  EXPECT_TRUE(has(counted, "lifeboat_registry_up 1"));
  counted.registry_called(RegistryCall::kGet, 6, false);
  EXPECT_TRUE(has(counted, "lifeboat_registry_up 0"));
  EXPECT_TRUE(has(counted, "lifeboat_registry_errors_total{operation=\"get\"} 1"));
  EXPECT_TRUE(has(counted, "lifeboat_registry_request_duration_seconds_bucket{operation=\"get\",le=\"0.005\"} 1"));
  EXPECT_TRUE(has(counted, "lifeboat_registry_request_duration_seconds_count{operation=\"get\"} 2"));
}

TEST(NodeMetrics, EverySeriesIsThereFromTheStart) {
  NodeMetrics before;
  NodeMetrics after;
  after.arrival_ended(true);
  after.arrival_ended(false);
  after.interrupted_ended(false);
  after.removed(Leftover::kImages);
  after.pager_died();
  after.container_lost();
  const auto lines = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
  EXPECT_EQ(lines(text_of(before)), lines(text_of(after)));
  EXPECT_TRUE(has(after, "lifeboat_arrivals_total{outcome=\"failed\"} 1"));
  EXPECT_TRUE(has(after, "lifeboat_interrupted_migrations_total{outcome=\"failed\"} 1"));
  EXPECT_TRUE(has(after, "lifeboat_interrupted_migrations_total{outcome=\"committed\"} 0"));
  EXPECT_TRUE(has(after, "lifeboat_leftovers_removed_total{kind=\"images\"} 1"));
  EXPECT_TRUE(has(after, "lifeboat_pagers_died_total 1"));
  EXPECT_TRUE(has(after, "lifeboat_containers_lost_total 1"));
}

}  // namespace
}  // namespace lifeboat
