// A migration's report as programs read it.
#include "report.hpp"

#include <gtest/gtest.h>

#include <regex>

namespace lifeboat {
namespace {

TEST(Report, Json) {
  MigrationReport report;
  report.id = "n1-abc";
  report.container = "hpl-0";
  report.job = "hpl";
  report.source = "n1";
  report.target = "n2";
  report.fabric = "10g";
  report.phase = "committed";
  report.outcome = Outcome::kCommitted;
  report.started_at = "2026-01-31T12:00:00.123Z";
  report.resident_bytes = 1ULL << 40;
  report.bytes_sent = 7;
  report.warnings = {"w"};
  report.times = {1, 2, 3, 4, 5, 6.00049, 7, 27.0006, 30};
  EXPECT_EQ(json::serialize(to_json(report)),
            R"({"id":"n1-abc","container":"hpl-0","job":"hpl","source":"n1","target":"n2",)"
            R"("fabric":"10g","mode":"stop-and-copy","phase":"committed","outcome":"committed",)"
            R"("error":"","started_at":"2026-01-31T12:00:00.123Z","resident_bytes":1099511627776,)"
            R"("bytes_sent":7,"preflight_ms":1E0,"downtime_ms":2.7001E1,"downtime_parts_ms":)"
            R"({"freeze":2E0,"dump":3E0,"transfer":4E0,"restore":5E0,"network":6E0,"resume":7E0},)"
            R"("total_ms":3E1,"warnings":["w"]})");
}

TEST(Report, OutcomesHaveNames) {
  EXPECT_STREQ(to_string(Outcome::kRunning), "running");
  EXPECT_STREQ(to_string(Outcome::kCommitted), "committed");
  EXPECT_STREQ(to_string(Outcome::kAborted), "aborted");
  EXPECT_STREQ(to_string(Outcome::kInDoubt), "in-doubt");
}

TEST(Report, Timestamp) {
  EXPECT_TRUE(std::regex_match(
      timestamp_now(), std::regex(R"(20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d\.\d{3}Z)")))
      << timestamp_now();
}

}  // namespace
}  // namespace lifeboat
