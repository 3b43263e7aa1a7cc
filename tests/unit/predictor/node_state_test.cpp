#include "predictor/node_state.hpp"

#include <gtest/gtest.h>

namespace lifeboat::predictor {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

const Time kStart = Time(Duration(1'700'000'000'000'000));
const StateTimes kTimes{minutes(10), hours(1)};

SignalDetails saying(std::string text) {
  SignalDetails details;
  details.text = std::move(text);
  return details;
}

NodeState after(const std::vector<Signal>& signals) {
  NodeState state(kTimes);
  for (const Signal signal : signals) state.apply(signal, saying("before"), kStart);
  return state;
}

// "up", "degraded (operator)"; with several reasons: "down (heartbeat; operator)".
std::string shown(const NodeState& state) {
  std::string text(to_string(state.condition()));
  const Reason* first = state.reason();
  if (first == nullptr) return text;
  text += " (" + std::string(to_string(first->cause));
  for (const Reason& reason : state.reasons()) {
    if (reason.cause != first->cause) text += "; " + std::string(to_string(reason.cause));
  }
  return text + ")";
}

struct Transition {
  Signal signal;
  std::string expected;
};

// One state, and what each of the ten signals makes of it. An hour has passed, but for the probation,
// which would be over.
struct StateCase {
  std::string name;
  std::vector<Signal> before;
  std::vector<Transition> transitions;
};

const StateCase kStates[] = {
    {"up",
     {},
     {{Signal::kVerdictDegraded, "degraded (predictor)"},
      {Signal::kVerdictDown, "down (predictor)"},
      {Signal::kVerdictCleared, "up"},
      {Signal::kDegrade, "degraded (operator)"},
      {Signal::kRestore, "up"},
      {Signal::kHeartbeatLost, "down (heartbeat)"},
      {Signal::kHeartbeatBack, "degraded (probation)"},
      {Signal::kRepaired, "degraded (probation)"},
      {Signal::kMaintenance, "degraded (maintenance)"},
      {Signal::kMaintenanceOver, "up"}}},
    {"degraded (predictor)",
     {Signal::kVerdictDegraded},
     {{Signal::kVerdictDegraded, "degraded (predictor)"},
      {Signal::kVerdictDown, "down (predictor)"},
      {Signal::kVerdictCleared, "up"},
      {Signal::kDegrade, "degraded (operator; predictor)"},
      {Signal::kRestore, "up"},
      {Signal::kHeartbeatLost, "down (heartbeat; predictor)"},
      {Signal::kHeartbeatBack, "degraded (predictor; probation)"},
      {Signal::kRepaired, "degraded (probation)"},
      {Signal::kMaintenance, "degraded (maintenance; predictor)"},
      {Signal::kMaintenanceOver, "degraded (predictor)"}}},
    {"down (predictor)",
     {Signal::kVerdictDown},
     {{Signal::kVerdictDegraded, "degraded (predictor)"},
      {Signal::kVerdictDown, "down (predictor)"},
      {Signal::kVerdictCleared, "up"},
      {Signal::kDegrade, "down (predictor; operator)"},
      {Signal::kRestore, "up"},
      {Signal::kHeartbeatLost, "down (heartbeat; predictor)"},
      {Signal::kHeartbeatBack, "degraded (probation)"},
      {Signal::kRepaired, "degraded (probation)"},
      {Signal::kMaintenance, "down (predictor; maintenance)"},
      {Signal::kMaintenanceOver, "down (predictor)"}}},
    {"degraded (operator)",
     {Signal::kDegrade},
     {{Signal::kVerdictDegraded, "degraded (operator; predictor)"},
      {Signal::kVerdictDown, "down (predictor; operator)"},
      {Signal::kVerdictCleared, "degraded (operator)"},
      {Signal::kDegrade, "degraded (operator)"},
      {Signal::kRestore, "up"},
      {Signal::kHeartbeatLost, "down (heartbeat; operator)"},
      {Signal::kHeartbeatBack, "degraded (operator; probation)"},
      {Signal::kRepaired, "degraded (operator; probation)"},
      {Signal::kMaintenance, "degraded (operator; maintenance)"},
      {Signal::kMaintenanceOver, "degraded (operator)"}}},
    {"degraded (maintenance)",
     {Signal::kMaintenance},
     {{Signal::kVerdictDegraded, "degraded (maintenance; predictor)"},
      {Signal::kVerdictDown, "down (predictor; maintenance)"},
      {Signal::kVerdictCleared, "degraded (maintenance)"},
      {Signal::kDegrade, "degraded (operator; maintenance)"},
      {Signal::kRestore, "up"},
      {Signal::kHeartbeatLost, "down (heartbeat; maintenance)"},
      {Signal::kHeartbeatBack, "degraded (maintenance; probation)"},
      {Signal::kRepaired, "degraded (maintenance; probation)"},
      {Signal::kMaintenance, "degraded (maintenance)"},
      {Signal::kMaintenanceOver, "up"}}},
    {"down (heartbeat)",
     {Signal::kHeartbeatLost},
     {{Signal::kVerdictDegraded, "down (heartbeat; predictor)"},
      {Signal::kVerdictDown, "down (heartbeat; predictor)"},
      {Signal::kVerdictCleared, "down (heartbeat)"},
      {Signal::kDegrade, "down (heartbeat; operator)"},
      {Signal::kRestore, "down (heartbeat)"},
      {Signal::kHeartbeatLost, "down (heartbeat)"},
      {Signal::kHeartbeatBack, "degraded (probation)"},
      {Signal::kRepaired, "degraded (probation)"},
      {Signal::kMaintenance, "down (heartbeat; maintenance)"},
      {Signal::kMaintenanceOver, "down (heartbeat)"}}},
    {"degraded (probation)",
     {Signal::kRepaired},
     {{Signal::kVerdictDegraded, "degraded (predictor; probation)"},
      {Signal::kVerdictDown, "down (predictor; probation)"},
      {Signal::kVerdictCleared, "degraded (probation)"},
      {Signal::kDegrade, "degraded (operator; probation)"},
      {Signal::kRestore, "up"},
      {Signal::kHeartbeatLost, "down (heartbeat; probation)"},
      {Signal::kHeartbeatBack, "degraded (probation)"},
      {Signal::kRepaired, "degraded (probation)"},
      {Signal::kMaintenance, "degraded (maintenance; probation)"},
      {Signal::kMaintenanceOver, "degraded (probation)"}}},
};

TEST(NodeState, EverySignalInEveryState) {
  for (const StateCase& test : kStates) {
    ASSERT_EQ(test.transitions.size(), kSignals) << test.name;
    EXPECT_EQ(shown(after(test.before)), test.name);
    for (std::size_t i = 0; i < kSignals; ++i) {
      const auto& [signal, expected] = test.transitions[i];
      ASSERT_EQ(static_cast<std::size_t>(signal), i) << test.name << ": one of each";
      NodeState state = after(test.before);
      state.apply(signal, saying("now"), kStart + hours(1));
      EXPECT_EQ(shown(state), expected) << test.name << ", " << to_string(signal);
    }
  }
}

TEST(NodeState, SaysWhetherItChanged) {
  NodeState state(kTimes);
  EXPECT_FALSE(state.apply(Signal::kRestore, saying(""), kStart));
  EXPECT_FALSE(state.apply(Signal::kVerdictCleared, saying(""), kStart));
  EXPECT_TRUE(state.apply(Signal::kDegrade, saying("fan"), kStart));
  EXPECT_FALSE(state.apply(Signal::kDegrade, saying("fan"), kStart + seconds(5)));
  EXPECT_TRUE(state.apply(Signal::kDegrade, saying("fan and disk"), kStart + seconds(6)));
  EXPECT_EQ(state.reason()->text, "fan and disk");
  EXPECT_EQ(state.reason()->since, kStart) << "said again, it is not new";
}

TEST(NodeState, AVerdictIsHeldForAWhile) {
  NodeState state = after({Signal::kVerdictDegraded});
  EXPECT_TRUE(state.apply(Signal::kVerdictCleared, saying(""), kStart + minutes(3)));
  EXPECT_EQ(shown(state), "degraded (predictor)");
  EXPECT_TRUE(state.reason()->cleared);
  EXPECT_FALSE(state.advance(kStart + minutes(9)));
  EXPECT_TRUE(state.advance(kStart + minutes(10)));
  EXPECT_EQ(shown(state), "up");
}

TEST(NodeState, AVerdictThatComesBackWithinTheHoldStays) {
  NodeState state = after({Signal::kVerdictDegraded});
  state.apply(Signal::kVerdictCleared, saying(""), kStart + minutes(3));
  state.apply(Signal::kVerdictDegraded, saying("again"), kStart + minutes(4));
  EXPECT_FALSE(state.advance(kStart + hours(5)));
  EXPECT_EQ(state.reason()->since, kStart);
  EXPECT_FALSE(state.reason()->cleared);
}

TEST(NodeState, AProbationEndsByItselfAndBeginsAgainWithTheNextReturn) {
  NodeState state = after({Signal::kHeartbeatLost});
  state.apply(Signal::kHeartbeatBack, saying("back"), kStart + minutes(5));
  EXPECT_EQ(state.reason()->until, kStart + minutes(65));
  state.apply(Signal::kHeartbeatLost, saying("silent"), kStart + minutes(40));
  state.apply(Signal::kHeartbeatBack, saying("back"), kStart + minutes(50));
  EXPECT_FALSE(state.advance(kStart + minutes(109)));
  EXPECT_TRUE(state.advance(kStart + minutes(110)));
  EXPECT_EQ(shown(state), "up");
}

TEST(NodeState, WithoutProbationANodeThatIsBackIsUp) {
  NodeState state(StateTimes{minutes(10), minutes(0)});
  state.apply(Signal::kHeartbeatLost, saying("silent"), kStart);
  EXPECT_TRUE(state.apply(Signal::kHeartbeatBack, saying("back"), kStart + minutes(1)));
  EXPECT_EQ(shown(state), "up");
}

TEST(NodeState, TimeEndsNothingThatAnOperatorSaid) {
  NodeState state = after({Signal::kDegrade, Signal::kMaintenance, Signal::kHeartbeatLost});
  EXPECT_FALSE(state.advance(kStart + hours(100'000)));
  EXPECT_EQ(shown(state), "down (heartbeat; operator; maintenance)");
}

TEST(NodeState, KeepsWhatTheVerdictRestsOn) {
  SignalDetails details;
  details.text = "12 corrected errors";
  details.evidence = {"first", "second"};
  details.lead = minutes(20);
  details.risk = 0.7;
  NodeState state(kTimes);
  state.apply(Signal::kVerdictDegraded, details, kStart);
  ASSERT_NE(state.reason(Cause::kPredictor), nullptr);
  const Reason& reason = *state.reason(Cause::kPredictor);
  EXPECT_EQ(reason.evidence, details.evidence);
  EXPECT_EQ(reason.lead, details.lead);
  EXPECT_EQ(reason.risk, details.risk);
  EXPECT_EQ(reason.since, kStart);
}

}  // namespace
}  // namespace lifeboat::predictor
