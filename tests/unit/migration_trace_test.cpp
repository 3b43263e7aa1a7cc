// A migration as a trace: whole and consistent, whatever is known of the migration.
#include "migration_trace.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace lifeboat {
namespace {

json::object report_of(const char* text) { return parse_object(text).value(); }

// A small one as a daemon told it, without what a trace does not use.
const char* const kCommitted = R"({
  "id": "n1-x", "container": "a-0", "job": "a", "source": "n1", "target": "n2", "fabric": "10g",
  "mode": "pre-copy", "outcome": "committed", "error": "", "started_at": "2026-01-31T12:00:00.000Z",
  "downtime_ms": 60, "total_ms": 460, "bytes_sent": 1000, "resident_bytes": 2000, "frozen_bytes": 10,
  "downtime_parts_ms": {"freeze": 5, "dump": 20, "transfer": 5, "restore": 20, "network": 2, "resume": 8},
  "rounds": [
    {"round": 1, "started_s": 0.02, "scan_s": 0.01, "send_s": 0.1, "pages_sent": 40, "bytes_on_wire": 900,
     "decision": {"reason": "go on"}},
    {"round": 2, "started_s": 0.32, "scan_s": 0.01, "send_s": 0.02, "pages_sent": 4, "bytes_on_wire": 90,
     "decision": {"reason": "within the budget"}}],
  "history": [
    {"t": 1000000, "side": "source", "phase": "queued"},
    {"t": 1001000, "side": "source", "phase": "connect"},
    {"t": 1030000, "side": "source", "phase": "pre-copy"},
    {"t": 1390000, "side": "source", "phase": "freeze"},
    {"t": 1395000, "side": "source", "phase": "dump"},
    {"t": 1420000, "side": "source", "phase": "restore"},
    {"t": 1442000, "side": "source", "phase": "commit"},
    {"t": 1450000, "side": "source", "phase": "committed"},
    {"t": 1460000, "side": "source", "phase": "committed"}]})";

struct Span {
  std::string name;
  double from = 0;
  double to = 0;
};
using Row = std::pair<int, int>;

// The rows by process and thread; every event is one that the format knows, with the members it needs.
std::map<Row, std::vector<Span>> rows_of(const json::object& trace) {
  std::map<Row, std::vector<Span>> rows;
  for (const json::value& item : trace.at("traceEvents").as_array()) {
    const json::object& event = item.as_object();
    const std::string kind = string_or(event, "ph");
    const Row row(event.at("pid").to_number<int>(), event.at("tid").to_number<int>());
    EXPECT_FALSE(string_or(event, "name").empty());
    if (kind == "M") {
      EXPECT_FALSE(string_or(event.at("args").as_object(), "name").empty());
      continue;
    }
    EXPECT_GE(event.at("ts").to_number<double>(), 0);
    if (kind == "i") {
      EXPECT_EQ(string_or(event, "s"), "p");
      continue;
    }
    EXPECT_EQ(kind, "X");
    const double from = event.at("ts").to_number<double>();
    const double took = event.at("dur").to_number<double>();
    EXPECT_GE(took, 0);
    rows[row].push_back({string_or(event, "name"), from, from + took});
  }
  return rows;
}

std::string names(const std::vector<Span>& spans) {
  std::string out;
  for (const Span& span : spans) out += (out.empty() ? "" : " ") + span.name;
  return out;
}

TEST(MigrationTrace, PhasesRoundsAndDowntimeOfBothEnds) {
  const auto made = trace_of(report_of(kCommitted));
  ASSERT_TRUE(made.has_value());
  // What a viewer gets is text.
  const json::object trace = report_of(json::serialize(*made).c_str());
  auto rows = rows_of(trace);
  EXPECT_EQ(names(rows[Row(1, 1)]), "queued connect pre-copy freeze dump restore commit committed");
  EXPECT_EQ(names(rows[Row(1, 2)]), "round 1 round 2");
  EXPECT_EQ(names(rows[Row(1, 3)]), "frozen freeze dump transfer");
  EXPECT_EQ(names(rows[Row(2, 3)]), "restore network resume");
  EXPECT_EQ(rows[Row(1, 2)][1].from, 330'000);  // 0.3 s after the first, which began with its phase
  EXPECT_EQ(rows[Row(1, 3)][0].from, 390'000);
  EXPECT_EQ(rows[Row(1, 3)][0].to, 450'000);
  EXPECT_EQ(rows[Row(2, 3)].back().to, 450'000);  // the parts add up
  EXPECT_EQ(string_or(trace.at("otherData").as_object(), "mode"), "pre-copy");
}

TEST(MigrationTrace, SpansOfARowFollowEachOtherOrNest) {
  for (auto& [row, spans] : rows_of(trace_of(report_of(kCommitted)).value())) {
    for (const Span& a : spans) {
      for (const Span& b : spans) {
        const bool apart = a.to <= b.from || b.to <= a.from;
        const bool nested = (a.from <= b.from && b.to <= a.to) || (b.from <= a.from && a.to <= b.to);
        EXPECT_TRUE(apart || nested) << a.name << " and " << b.name;
      }
    }
  }
}

TEST(MigrationTrace, OneThatFailedEarly) {
  const auto made = trace_of(report_of(R"({"id": "n1-y", "source": "n1", "target": "n2", "outcome": "aborted",
    "downtime_ms": 0, "rounds": [], "history": [
      {"t": 5000000, "phase": "queued"}, {"t": 5000400, "phase": "connect"},
      {"t": 5002000, "phase": "aborted", "reason": "no room"}]})"));
  ASSERT_TRUE(made.has_value());
  auto rows = rows_of(*made);
  EXPECT_EQ(rows.size(), 1U);
  EXPECT_EQ(names(rows[Row(1, 1)]), "queued connect");
  const json::object& end = made->at("traceEvents").as_array().back().as_object();
  EXPECT_EQ(string_or(end, "name"), "aborted");
  EXPECT_EQ(string_or(end.at("args").as_object(), "reason"), "no room");
}

TEST(MigrationTrace, WithoutHistoryThereIsNone) {
  for (const char* text : {R"({"id": "n1-z"})", R"({"id": "n1-z", "history": []})",
                           R"({"id": "n1-z", "history": [7, {"phase": ""}, {"t": "x", "phase": "queued"}]})"}) {
    const auto made = trace_of(report_of(text));
    ASSERT_FALSE(made.has_value());
    EXPECT_EQ(made.error().message, "no phase of migration 'n1-z' is known here");
  }
}

}  // namespace
}  // namespace lifeboat
