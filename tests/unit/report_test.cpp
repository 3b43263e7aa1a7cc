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
  report.times.queued = 9;
  report.times.preflight = 1;
  report.times.pre_copy = 8;
  report.times.freeze = 2;
  report.times.dump = 3;
  report.times.transfer = 4;
  report.times.restore = 5;
  report.times.network = 6.00049;
  report.times.resume = 7;
  report.times.downtime = 27.0006;
  report.times.total = 30;
  report.times.tidy = 40;
  report.memory.pages = 9;
  report.memory.pages_duplicate = 3;
  report.images = {17, 18, 19, 2, 20};
  report.memory.pages_compressed = 4;
  report.memory.bytes_raw = 5;
  report.memory.bytes_on_wire = 6;
  report.memory.bytes_frozen = 10;
  report.hold.frames = 13;
  report.hold.bytes = 14;
  report.hold.delivered = 15;
  report.hold.dropped = 16;
  report.layer = {11, 12, 13, 14, 15};
  report.progress->pages_to_send = 12;
  report.progress->pages_sent = 11;
  EXPECT_EQ(json::serialize(to_json(report)),
            R"({"id":"n1-abc","container":"hpl-0","job":"hpl","source":"n1","target":"n2",)"
            R"("fabric":"10g","mode":"pre-copy","phase":"committed","outcome":"committed",)"
            R"("error":"","cancelled":false,"started_at":"2026-01-31T12:00:00.123Z",)"
            R"("resident_bytes":1099511627776,)"
            R"("bytes_sent":7,"frozen_bytes":10,"round_pages":12,"round_pages_sent":11,)"
            R"("memory":{"pages":9,"pages_frozen":0,"pages_untracked":0,"pages_zero":0,)"
            R"("pages_later":0,"pages_wanted":0,"pages_duplicate":3,"pages_compressed":4,"bytes_raw":5,)"
            R"("bytes_on_wire":6,"survey_ms":0E0,"send_ms":0E0,"criu_dump_ms":0E0,"untracked_reason":""},)"
            R"("held":{"frames":13,"bytes":14,"delivered":15,"dropped":16},)"
            R"("images":{"bytes":17,"known_bytes":18,"ahead_bytes":19,"passes":2,"ahead_ms":2E1},"layer":{"files":11,"bytes_running":12,)"
            R"("bytes_frozen":13,"frozen_ms":1.4E1,"bytes_tracked":15},"rounds":[],)"
            R"("queued_ms":9E0,"preflight_ms":1E0,"pre_copy_ms":8E0,)"
            R"("downtime_ms":2.7001E1,"downtime_parts_ms":)"
            R"({"freeze":2E0,"dump":3E0,"transfer":4E0,"restore":5E0,"network":6E0,"resume":7E0},)"
            R"("drain_ms":0E0,"total_ms":3E1,"tidy_ms":4E1,"warnings":["w"],)"
            R"("queue_position":0,"waiting_for":"","remaining_bytes":0,"rate_bytes_per_s":0E0,)"
            R"("dirty_bytes_per_s":0E0,"eta_s":0E0,"expected_downtime_ms":null})");
}

TEST(Report, WhatIsSentShowsWhileItRuns) {
  MigrationReport report;
  report.progress->bytes_sent.add(4096);
  EXPECT_EQ(to_json(report).at("bytes_sent").to_number<int>(), 4096);
}

TEST(Report, ProgressWhileItRuns) {
  MigrationReport report;
  report.mode = MigrationMode::kPreCopy;
  report.phase = "pre-copy";
  report.fixed_ms = 170;
  report.progress->pages_to_send = 1000;
  report.progress->pages_sent = 600;
  report.nominal_bytes_per_s = 4096000;
  RoundReport round;
  round.decision.dirty_bytes_per_s = 1024000;
  round.decision.send_bytes_per_s = 2048000;
  round.decision.expected_downtime_s = 0.03;
  report.rounds.push_back(round);
  const json::object out = to_json(report);
  EXPECT_EQ(out.at("remaining_bytes").to_number<int>(), 400 * 4096);
  EXPECT_EQ(out.at("dirty_bytes_per_s").to_number<int>(), 1024000);
  EXPECT_NEAR(out.at("expected_downtime_ms").to_number<double>(), 170 + 30, 0.01);
  EXPECT_NEAR(out.at("eta_s").to_number<double>(), 0.8 * 2 + 0.2, 0.001);
}

TEST(Report, ModesHaveNames) {
  for (const MigrationMode mode : kMigrationModes) {
    const auto found = migration_mode_from(to_string(mode));
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(*found, mode);
  }
  const auto unknown = migration_mode_from("warp");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().message,
            "no migration mode 'warp'; known: pre-copy, stop-and-copy, post-copy, hybrid, criu-images");
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
