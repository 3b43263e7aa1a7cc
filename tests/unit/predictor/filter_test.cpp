#include "predictor/filter.hpp"

#include <gtest/gtest.h>

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

const Time kStart{Duration(1'700'000'000'000'000)};

TEST(Template, NumbersAddressesAndPathsAreWildcards) {
  EXPECT_EQ(template_text("I/O error, dev sda1, sector 123"), "I/O error, dev *, sector *");
  EXPECT_EQ(template_text("open /etc/passwd failed at deadbeef"), "open * failed at *");
  EXPECT_EQ(template_hash("sector 123 of sda1"), template_hash("sector 4 of sdb2"));
  EXPECT_NE(template_hash("read error"), template_hash("write error"));
}

TEST(TemplateTable, AFloodOfTemplatesKeepsWhatForetoldAFailure) {
  TemplateTable table(64);
  bool fresh = false;
  table.find(1, kStart, fresh).outcomes.hits = 1;
  for (std::uint64_t hash = 2; hash < 100'000; ++hash) (void)table.find(hash, kStart + 1s, fresh);
  EXPECT_EQ(table.all().size(), 64u);
  EXPECT_EQ(table.find(1, kStart + 2s, fresh).outcomes.hits, 1);
  EXPECT_FALSE(fresh);
}

TEST(TemporalFilter, KeepsTheFirstOfAClusterAndTellsALongOneAgain) {
  TemporalFilter filter{FilterConfig{}};
  EXPECT_FALSE(filter.repeated(1, "sda", 7, kStart));
  EXPECT_TRUE(filter.repeated(1, "sda", 7, kStart + 299s));
  EXPECT_FALSE(filter.repeated(1, "sdb", 7, kStart + 299s));
  EXPECT_FALSE(filter.repeated(2, "sda", 7, kStart + 299s));
  int told = 0;
  for (auto at = 300s; at < 4h; at += 200s) told += filter.repeated(1, "sda", 7, kStart + at) ? 0 : 1;
  EXPECT_EQ(told, 3);
}

TEST(SemanticFilter, TheSameInOtherWordsIsRedundantButNeverWhatIsWorse) {
  SaidLately lately;
  const Keywords first = keywords("torus link error on receiver four retransmission failed");
  const Keywords second = keywords("torus link error on receiver retransmission failed again");
  EXPECT_FALSE(redundant(lately, first, 1, Severity::kError, kStart));
  EXPECT_TRUE(redundant(lately, second, 2, Severity::kError, kStart + 30s));
  EXPECT_FALSE(redundant(lately, second, 2, Severity::kFatal, kStart + 31s));
}

TEST(FacilityFilter, CountsDistinctNodesWithinTheGap) {
  FilterConfig config;
  config.facility_nodes = 3;
  Cluster cluster;
  for (std::uint32_t i = 0; i < 10; ++i) EXPECT_FALSE(facility_wide(config, cluster, i % 3, kStart));
  EXPECT_TRUE(facility_wide(config, cluster, 3, kStart + 10s));
  EXPECT_FALSE(facility_wide(config, cluster, 4, kStart + 20min));
}

TEST(KeywordsTest, CountsDistinctBitsAndThoseOfBoth) {
  Keywords a;
  EXPECT_TRUE(a.none());
  for (const std::size_t bit : {0U, 63U, 64U, 255U, 64U}) a.set(bit);
  Keywords b;
  for (const std::size_t bit : {63U, 65U, 255U}) b.set(bit);
  EXPECT_EQ(a.count(), 4U);
  EXPECT_EQ(b.count(), 3U);
  EXPECT_EQ(a.common(b), 2U);
}

TEST(TemplateTableTest, AnEntryThatIsPushedOutLeavesNothingToTheNext) {
  TemplateTable table(8);
  bool fresh = false;
  const Time start{Duration(1'700'000'000'000'000)};
  for (std::uint64_t hash = 1; hash <= 8; ++hash) {
    Template& entry = table.find(hash, start + Duration(hash), fresh);
    entry.cluster.nodes = {1, 2, 3};
    entry.outcomes.trials = 5;
  }
  const Template& next = table.find(9, start + Duration(9), fresh);
  EXPECT_TRUE(fresh);
  EXPECT_EQ(next.seen, 1U);
  EXPECT_EQ(next.outcomes.trials, 0);
  EXPECT_TRUE(next.words.none());
  EXPECT_TRUE(next.cluster.nodes.empty());
  (void)table.find(1, start + Duration(10), fresh);
  EXPECT_TRUE(fresh);  // it was the one used least recently
}

}  // namespace
}  // namespace lifeboat::predictor
