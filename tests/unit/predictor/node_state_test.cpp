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

NodeState after(const std::vector<StateSignal>& signals) {
  NodeState state(kTimes);
  for (const StateSignal signal : signals) state.apply(signal, saying("before"), kStart);
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
  StateSignal signal;
  std::string expected;
};

// One state, and what each of the ten signals makes of it. An hour has passed, but for the probation,
// which would be over.
struct StateCase {
  std::string name;
  std::vector<StateSignal> before;
  std::vector<Transition> transitions;
};

const StateCase kStates[] = {
    {"up",
     {},
     {{StateSignal::kVerdictDegraded, "degraded (predictor)"},
      {StateSignal::kVerdictDown, "down (predictor)"},
      {StateSignal::kVerdictCleared, "up"},
      {StateSignal::kDegrade, "degraded (operator)"},
      {StateSignal::kRestore, "up"},
      {StateSignal::kHeartbeatLost, "down (heartbeat)"},
      {StateSignal::kHeartbeatBack, "degraded (probation)"},
      {StateSignal::kRepaired, "degraded (probation)"},
      {StateSignal::kMaintenance, "degraded (maintenance)"},
      {StateSignal::kMaintenanceOver, "up"},
      {StateSignal::kHeartbeatFirst, "up"}}},
    {"degraded (predictor)",
     {StateSignal::kVerdictDegraded},
     {{StateSignal::kVerdictDegraded, "degraded (predictor)"},
      {StateSignal::kVerdictDown, "down (predictor)"},
      {StateSignal::kVerdictCleared, "up"},
      {StateSignal::kDegrade, "degraded (operator; predictor)"},
      {StateSignal::kRestore, "up"},
      {StateSignal::kHeartbeatLost, "down (heartbeat; predictor)"},
      {StateSignal::kHeartbeatBack, "degraded (predictor; probation)"},
      {StateSignal::kRepaired, "degraded (probation)"},
      {StateSignal::kMaintenance, "degraded (maintenance; predictor)"},
      {StateSignal::kMaintenanceOver, "degraded (predictor)"},
      {StateSignal::kHeartbeatFirst, "degraded (predictor)"}}},
    {"down (predictor)",
     {StateSignal::kVerdictDown},
     {{StateSignal::kVerdictDegraded, "degraded (predictor)"},
      {StateSignal::kVerdictDown, "down (predictor)"},
      {StateSignal::kVerdictCleared, "up"},
      {StateSignal::kDegrade, "down (predictor; operator)"},
      {StateSignal::kRestore, "up"},
      {StateSignal::kHeartbeatLost, "down (heartbeat; predictor)"},
      {StateSignal::kHeartbeatBack, "degraded (probation)"},
      {StateSignal::kRepaired, "degraded (probation)"},
      {StateSignal::kMaintenance, "down (predictor; maintenance)"},
      {StateSignal::kMaintenanceOver, "down (predictor)"},
      {StateSignal::kHeartbeatFirst, "down (predictor)"}}},
    {"degraded (operator)",
     {StateSignal::kDegrade},
     {{StateSignal::kVerdictDegraded, "degraded (operator; predictor)"},
      {StateSignal::kVerdictDown, "down (predictor; operator)"},
      {StateSignal::kVerdictCleared, "degraded (operator)"},
      {StateSignal::kDegrade, "degraded (operator)"},
      {StateSignal::kRestore, "up"},
      {StateSignal::kHeartbeatLost, "down (heartbeat; operator)"},
      {StateSignal::kHeartbeatBack, "degraded (operator; probation)"},
      {StateSignal::kRepaired, "degraded (operator; probation)"},
      {StateSignal::kMaintenance, "degraded (operator; maintenance)"},
      {StateSignal::kMaintenanceOver, "degraded (operator)"},
      {StateSignal::kHeartbeatFirst, "degraded (operator)"}}},
    {"degraded (maintenance)",
     {StateSignal::kMaintenance},
     {{StateSignal::kVerdictDegraded, "degraded (maintenance; predictor)"},
      {StateSignal::kVerdictDown, "down (predictor; maintenance)"},
      {StateSignal::kVerdictCleared, "degraded (maintenance)"},
      {StateSignal::kDegrade, "degraded (operator; maintenance)"},
      {StateSignal::kRestore, "up"},
      {StateSignal::kHeartbeatLost, "down (heartbeat; maintenance)"},
      {StateSignal::kHeartbeatBack, "degraded (maintenance; probation)"},
      {StateSignal::kRepaired, "degraded (maintenance; probation)"},
      {StateSignal::kMaintenance, "degraded (maintenance)"},
      {StateSignal::kMaintenanceOver, "up"},
      {StateSignal::kHeartbeatFirst, "degraded (maintenance)"}}},
    {"down (heartbeat)",
     {StateSignal::kHeartbeatLost},
     {{StateSignal::kVerdictDegraded, "down (heartbeat; predictor)"},
      {StateSignal::kVerdictDown, "down (heartbeat; predictor)"},
      {StateSignal::kVerdictCleared, "down (heartbeat)"},
      {StateSignal::kDegrade, "down (heartbeat; operator)"},
      {StateSignal::kRestore, "down (heartbeat)"},
      {StateSignal::kHeartbeatLost, "down (heartbeat)"},
      {StateSignal::kHeartbeatBack, "degraded (probation)"},
      {StateSignal::kRepaired, "degraded (probation)"},
      {StateSignal::kMaintenance, "down (heartbeat; maintenance)"},
      {StateSignal::kMaintenanceOver, "down (heartbeat)"},
      {StateSignal::kHeartbeatFirst, "up"}}},
    {"degraded (probation)",
     {StateSignal::kRepaired},
     {{StateSignal::kVerdictDegraded, "degraded (predictor; probation)"},
      {StateSignal::kVerdictDown, "down (predictor; probation)"},
      {StateSignal::kVerdictCleared, "degraded (probation)"},
      {StateSignal::kDegrade, "degraded (operator; probation)"},
      {StateSignal::kRestore, "up"},
      {StateSignal::kHeartbeatLost, "down (heartbeat; probation)"},
      {StateSignal::kHeartbeatBack, "degraded (probation)"},
      {StateSignal::kRepaired, "degraded (probation)"},
      {StateSignal::kMaintenance, "degraded (maintenance; probation)"},
      {StateSignal::kMaintenanceOver, "degraded (probation)"},
      {StateSignal::kHeartbeatFirst, "degraded (probation)"}}},
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
  EXPECT_FALSE(state.apply(StateSignal::kRestore, saying(""), kStart));
  EXPECT_FALSE(state.apply(StateSignal::kVerdictCleared, saying(""), kStart));
  EXPECT_TRUE(state.apply(StateSignal::kDegrade, saying("fan"), kStart));
  EXPECT_FALSE(state.apply(StateSignal::kDegrade, saying("fan"), kStart + seconds(5)));
  EXPECT_TRUE(state.apply(StateSignal::kDegrade, saying("fan and disk"), kStart + seconds(6)));
  EXPECT_EQ(state.reason()->text, "fan and disk");
  EXPECT_EQ(state.reason()->since, kStart) << "said again, it is not new";
}

TEST(NodeState, AVerdictIsHeldForAWhile) {
  NodeState state = after({StateSignal::kVerdictDegraded});
  EXPECT_TRUE(state.apply(StateSignal::kVerdictCleared, saying(""), kStart + minutes(3)));
  EXPECT_EQ(shown(state), "degraded (predictor)");
  EXPECT_TRUE(state.reason()->cleared);
  EXPECT_FALSE(state.advance(kStart + minutes(9)));
  EXPECT_TRUE(state.advance(kStart + minutes(10)));
  EXPECT_EQ(shown(state), "up");
}

TEST(NodeState, AVerdictThatComesBackWithinTheHoldStays) {
  NodeState state = after({StateSignal::kVerdictDegraded});
  state.apply(StateSignal::kVerdictCleared, saying(""), kStart + minutes(3));
  state.apply(StateSignal::kVerdictDegraded, saying("again"), kStart + minutes(4));
  EXPECT_FALSE(state.advance(kStart + hours(5)));
  EXPECT_EQ(state.reason()->since, kStart);
  EXPECT_FALSE(state.reason()->cleared);
}

TEST(NodeState, AProbationEndsByItselfAndBeginsAgainWithTheNextReturn) {
  NodeState state = after({StateSignal::kHeartbeatLost});
  state.apply(StateSignal::kHeartbeatBack, saying("back"), kStart + minutes(5));
  EXPECT_EQ(state.reason()->until, kStart + minutes(65));
  state.apply(StateSignal::kHeartbeatLost, saying("silent"), kStart + minutes(40));
  state.apply(StateSignal::kHeartbeatBack, saying("back"), kStart + minutes(50));
  EXPECT_FALSE(state.advance(kStart + minutes(109)));
  EXPECT_TRUE(state.advance(kStart + minutes(110)));
  EXPECT_EQ(shown(state), "up");
}

TEST(NodeState, WithoutProbationANodeThatIsBackIsUp) {
  NodeState state(StateTimes{minutes(10), minutes(0)});
  state.apply(StateSignal::kHeartbeatLost, saying("silent"), kStart);
  EXPECT_TRUE(state.apply(StateSignal::kHeartbeatBack, saying("back"), kStart + minutes(1)));
  EXPECT_EQ(shown(state), "up");
}

TEST(NodeState, TimeEndsNothingThatAnOperatorSaid) {
  NodeState state = after({StateSignal::kDegrade, StateSignal::kMaintenance, StateSignal::kHeartbeatLost});
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
  state.apply(StateSignal::kVerdictDegraded, details, kStart);
  ASSERT_NE(state.reason(Cause::kPredictor), nullptr);
  const Reason& reason = *state.reason(Cause::kPredictor);
  EXPECT_EQ(reason.evidence, details.evidence);
  EXPECT_EQ(reason.lead, details.lead);
  EXPECT_EQ(reason.risk, details.risk);
  EXPECT_EQ(reason.since, kStart);
}

}  // namespace
}  // namespace lifeboat::predictor
