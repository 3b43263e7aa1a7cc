#include "predictor/predictor.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "base/json.hpp"

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

const Time kStart{Duration(1'700'000'000'000'000)};

Event event(Duration at, EventKind kind, Severity severity, std::string text = "") {
  Event event;
  event.time = kStart + at;
  event.node = "n1";
  event.source = "test";
  event.kind = kind;
  event.severity = severity;
  event.text = std::move(text);
  return event;
}

Event corrected(Duration at, std::string location = "mc0/dimm3", std::string row = "17") {
  Event made = event(at, EventKind::kCorrectedMemory, Severity::kWarning, "CE memory read error");
  made.location = std::move(location);
  made.details = {{"row", std::move(row)}};
  return made;
}

TEST(Predictor, ADimmWithManyCorrectedErrorsDegradesItsNodeWithinOneEvent) {
  Predictor predictor{{}};
  for (int i = 0; i < 9; ++i) predictor.add(corrected(i * 10s));
  EXPECT_TRUE(predictor.take_changes().empty());
  for (int i = 9; i < 12; ++i) predictor.add(corrected(i * 10s));
  const std::vector<Verdict> changes = predictor.take_changes();
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].node, "n1");
  EXPECT_TRUE(changes[0].degraded);
  EXPECT_FALSE(changes[0].down);
  EXPECT_GE(changes[0].risk, 0.3);
  EXPECT_GT(changes[0].lead, 0s);
  EXPECT_LE(changes[0].since, kStart + 110s);
  EXPECT_NE(changes[0].reason.find("mc0/dimm3: 12 corrected memory errors in 24 h (limit 10)"),
            std::string::npos)
      << changes[0].reason;
  ASSERT_FALSE(changes[0].evidence.empty());
  EXPECT_EQ(changes[0].evidence.back().event.location, "mc0/dimm3");
}

TEST(Predictor, CorrectedErrorsSpreadOverManyDimmsDoNotDegrade) {
  Predictor predictor{{}};
  for (int i = 0; i < 12; ++i) predictor.add(corrected(i * 10s, "mc0/dimm" + std::to_string(i)));
  EXPECT_TRUE(predictor.take_changes().empty());
}

TEST(Predictor, OneUncorrectableErrorDegrades) {
  Predictor predictor{{}};
  predictor.add(event(0s, EventKind::kUncorrectedMemory, Severity::kCritical));
  EXPECT_TRUE(predictor.verdict("n1").degraded);
}

TEST(Predictor, TheNodeIsHealthyAgainOnceTheEvidenceHasFaded) {
  Predictor predictor{{}};
  for (int i = 0; i < 12; ++i) predictor.add(corrected(i * 10s));
  predictor.advance(kStart + 12h);
  EXPECT_TRUE(predictor.verdict("n1").degraded);
  (void)predictor.take_changes();
  predictor.advance(kStart + 96h);
  const std::vector<Verdict> changes = predictor.take_changes();
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_FALSE(changes[0].degraded);
}

TEST(Predictor, ALostHeartbeatIsDownAndARepairIsFollowedByAProbation) {
  Predictor predictor{{}};
  predictor.add(event(0s, EventKind::kHeartbeatLost, Severity::kFatal));
  EXPECT_TRUE(predictor.verdict("n1").down);
  EXPECT_FALSE(predictor.verdict("n1").degraded);
  predictor.add(event(1h, EventKind::kRepaired, Severity::kInfo));
  const Verdict probation = predictor.verdict("n1");
  EXPECT_FALSE(probation.down);
  EXPECT_TRUE(probation.degraded);
  EXPECT_NE(probation.reason.find("probation"), std::string::npos) << probation.reason;
  predictor.advance(kStart + 3h);
  EXPECT_TRUE(predictor.verdict("n1").degraded);
  predictor.advance(kStart + 26h);
  EXPECT_FALSE(predictor.verdict("n1").degraded) << predictor.verdict("n1").reason;
}

TEST(Predictor, LearnsWhichMessageForetellsAFailure) {
  Predictor predictor{{}};
  Duration at{};
  for (int i = 0; i < 8; ++i, at += 72h) {
    predictor.advance(kStart + at);
    predictor.add(event(at, EventKind::kMessage, Severity::kError, "fan 3 is slow: 812 rpm"));
    predictor.add(event(at + 1h, EventKind::kMessage, Severity::kError, "user 7 not known"));
    predictor.add(event(at + 2h, EventKind::kDown, Severity::kFatal));
    predictor.add(event(at + 3h, EventKind::kRepaired, Severity::kInfo));
    for (int j = 1; j < 4; ++j) {
      predictor.add(event(at + 12h * j, EventKind::kMessage, Severity::kError, "user 8 not known"));
    }
  }
  at += 240h;
  predictor.advance(kStart + at);
  EXPECT_FALSE(predictor.verdict("n1").degraded);
  predictor.add(event(at, EventKind::kMessage, Severity::kError, "fan 4 is slow: 99 rpm"));
  const Verdict verdict = predictor.verdict("n1");
  EXPECT_TRUE(verdict.degraded) << verdict.reason;
  EXPECT_NE(verdict.reason.find("followed by a failure"), std::string::npos) << verdict.reason;
  EXPECT_GT(verdict.lead, 30min);
  EXPECT_LT(verdict.lead, 6h);
}

TEST(Predictor, MessagesAloneDegradeNobodyHoweverManyThereAre) {
  Predictor predictor{{}};
  const std::vector<std::string> words{"alpha", "beta", "gamma", "delta", "epsilon", "zeta"};
  for (int i = 0; i < 3000; ++i) {
    const auto n = static_cast<std::size_t>(i);
    predictor.add(event(i * 10min, EventKind::kMessage, Severity::kError,
                        words[n % 6] + " " + words[n / 6 % 6] + " " + words[n / 36 % 6] +
                            " failed with status " + std::to_string(i)));
  }
  EXPECT_TRUE(predictor.take_changes().empty());
}

TEST(Predictor, WhatManyNodesSayAtOnceIsNotTheirFailure) {
  Predictor predictor{{}};
  for (int i = 0; i < 40; ++i) {
    Event power = event(i * 1s, EventKind::kPower, Severity::kFatal, "supply 1: input lost");
    power.node = "n" + std::to_string(i);
    predictor.add(power);
  }
  predictor.advance(kStart + 1h + 1min);
  for (int i = 0; i < 40; ++i) {
    const Verdict verdict = predictor.verdict("n" + std::to_string(i));
    EXPECT_FALSE(verdict.degraded) << verdict.reason;
  }
}

TEST(Predictor, AFewNodesThatSayItAreDegraded) {
  Predictor predictor{{}};
  for (int i = 0; i < 4; ++i) {
    Event power = event(i * 1s, EventKind::kPower, Severity::kFatal, "supply 1: input lost");
    power.node = "n" + std::to_string(i);
    predictor.add(power);
  }
  EXPECT_EQ(predictor.take_changes().size(), 4u);
}

TEST(Predictor, GarbageTurnsNothing) {
  Predictor predictor{{}};
  predictor.add(event(0s, EventKind::kMessage, Severity::kInfo, "hello"));
  std::string binary;
  for (int i = 0; i < 256; ++i) binary += static_cast<char>(i);
  Event odd = event(1s, EventKind::kMessage, Severity::kFatal, binary);
  odd.location = binary;
  odd.details = {{binary, binary}};
  predictor.add(odd);
  predictor.add(event(2s, EventKind::kMessage, Severity::kFatal, std::string(1 << 20, 'x')));
  Event absurd = corrected(3s);
  absurd.count = std::numeric_limits<std::uint64_t>::max();
  predictor.add(absurd);
  Event nobody = event(4s, EventKind::kUncorrectedMemory, Severity::kFatal);
  nobody.node.clear();
  predictor.add(nobody);
  nobody.node = std::string(1000, 'n');
  predictor.add(nobody);
  nobody.node = binary;
  predictor.add(nobody);
  EXPECT_TRUE(predictor.take_changes().empty());
  EXPECT_EQ(predictor.nodes(), 1u);
  Predictor other{{}};
  EXPECT_TRUE(other.load(predictor.save()).has_value());
}

TEST(Predictor, AClockThatJumpsAheadOnceAgesNothing) {
  Predictor predictor{{}};
  for (int i = 0; i < 12; ++i) predictor.add(corrected(i * 10s));
  ASSERT_TRUE(predictor.verdict("n1").degraded);
  predictor.add(event(24h * 3650, EventKind::kMessage, Severity::kInfo, "hello from the future"));
  predictor.add(event(3min, EventKind::kMessage, Severity::kInfo, "hello from today"));
  EXPECT_TRUE(predictor.verdict("n1").degraded);
  predictor.add(event(-24h * 3650, EventKind::kMessage, Severity::kInfo, "hello from the past"));
  EXPECT_TRUE(predictor.verdict("n1").degraded);
}

TEST(Predictor, StateSurvivesARestart) {
  Predictor predictor{{}};
  for (int i = 0; i < 12; ++i) predictor.add(corrected(i * 10s));
  (void)predictor.take_changes();
  const std::string saved = predictor.save();
  Predictor again{{}};
  ASSERT_TRUE(again.load(saved).has_value());
  EXPECT_EQ(again.save(), saved);
  EXPECT_EQ(again.verdict("n1").reason, predictor.verdict("n1").reason);
  EXPECT_TRUE(again.verdict("n1").degraded);
  EXPECT_EQ(again.verdict("n1").evidence.size(), predictor.verdict("n1").evidence.size());
  for (Predictor* one : {&predictor, &again}) one->advance(kStart + 96h);
  EXPECT_EQ(again.take_changes().size(), 1u);
  EXPECT_EQ(predictor.take_changes().size(), 1u);
  EXPECT_EQ(again.save(), predictor.save());
}

TEST(Predictor, DamagedStateChangesNothing) {
  Predictor predictor{{}};
  for (int i = 0; i < 12; ++i) predictor.add(corrected(i * 10s));
  const std::string saved = predictor.save();
  for (std::size_t cut = 0; cut < saved.size(); cut += 7) {
    const Status loaded = predictor.load(std::string_view(saved).substr(0, cut));
    ASSERT_FALSE(loaded.has_value()) << cut;
    ASSERT_EQ(loaded.error().code, Errc::kInvalid) << cut;
  }
  EXPECT_FALSE(predictor.load(R"({"version":1,"now":5})").has_value());
  // Numbers with which nothing can be reckoned, and times that are none.
  const std::string now = "\"now\":" + std::to_string(json::parse(saved).as_object().at("now").as_int64());
  for (const char* instead : {"\"now\":9223372036854775807", "\"now\":-9223372036854775808"}) {
    std::string damaged = saved;
    damaged.replace(damaged.find(now), now.size(), instead);
    EXPECT_FALSE(predictor.load(damaged).has_value()) << instead;
  }
  json::object huge = json::parse(saved).as_object();
  huge["weights"].as_array()[0] = 1e308;
  EXPECT_FALSE(predictor.load(json::serialize(huge)).has_value());
  EXPECT_EQ(predictor.save(), saved);
}

TEST(Predictor, ANodeNeverHeardOfIsNeitherDegradedNorDown) {
  const Predictor predictor{{}};
  EXPECT_FALSE(predictor.verdict("x").degraded);
  EXPECT_FALSE(predictor.verdict("x").down);
}

TEST(Predictor, NodesTooManyAreIgnored) {
  PredictorConfig config;
  config.nodes_max = 3;
  Predictor predictor(config);
  for (int i = 0; i < 10; ++i) {
    Event bad = event(i * 1s, EventKind::kUncorrectedMemory, Severity::kFatal);
    bad.node = "n" + std::to_string(i);
    predictor.add(bad);
  }
  EXPECT_EQ(predictor.nodes(), 3u);
  EXPECT_EQ(predictor.take_changes().size(), 3u);
}

}  // namespace
}  // namespace lifeboat::predictor
