// node_state.hpp - up, degraded or down, and why: what the rest of Lifeboat acts on.
//
// A node is up unless there is a reason against it. Every cause holds at most one reason, and each is
// taken back only by whom it belongs to: what the predictor, the heartbeat or a probation says goes by
// itself, what an operator says stays until an operator takes it back. Which signal gives and takes
// what is one table, in node_state.cpp.
//
// The states are those of Hacker, Romero and Carothers 2009 (J. Parallel Distrib. Comput. 69(7)); a node
// that comes back counts as degraded for a while because its hazard falls with time since the repair.
//
// Pure: times are given, nothing is done here.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "predictor/event.hpp"

namespace lifeboat::predictor {

enum class NodeCondition : std::uint8_t { kUp, kDegraded, kDown };

// In the order in which they are shown when there are several; but one that says `down` comes first.
enum class Cause : std::uint8_t { kHeartbeat, kOperator, kMaintenance, kPredictor, kProbation };
inline constexpr std::size_t kCauses = 5;

enum class StateSignal : std::uint8_t {
  kVerdictDegraded,  // the predictor expects it to fail
  kVerdictDown,      // the predictor has seen it fail
  kVerdictCleared,   // the predictor does not expect it any more
  kDegrade,          // an operator's word
  kRestore,          // an operator's word: it is well, whoever said otherwise
  kHeartbeatLost,
  kHeartbeatBack,
  kRepaired,
  kMaintenance,  // it is to be empty by a time
  kMaintenanceOver,
  kHeartbeatFirst,  // it was awaited, not lost
};
inline constexpr std::size_t kSignals = 11;

// Text forms: "up"; "heartbeat"; "verdict-degraded", "degrade", ...
[[nodiscard]] std::string_view to_string(NodeCondition condition);
[[nodiscard]] std::string_view to_string(Cause cause);
[[nodiscard]] std::string_view to_string(StateSignal signal);
// kInvalid naming what there is.
Result<NodeCondition> node_condition_from(std::string_view text);
Result<Cause> cause_from(std::string_view text);

// Why a node is not up.
struct Reason {
  Cause cause = Cause::kOperator;
  NodeCondition condition = NodeCondition::kDegraded;
  std::string text;                   // one line
  std::vector<std::string> evidence;  // one line each
  Time since{};
  Time until{};     // maintenance: when it is to be empty; probation: its end; else 0: open
  Duration lead{};  // predictor: how long until it is expected to fail; 0: not known
  double risk = 0;  // predictor: the probability that it fails within its horizon
  bool cleared = false;  // predictor: it does not say so any more, but the hold time is not over

  bool operator==(const Reason&) const = default;
};

// What a signal says beside itself.
struct SignalDetails {
  std::string text;
  std::vector<std::string> evidence = {};
  Time until{};     // kMaintenance
  Duration lead{};  // kVerdictDegraded
  double risk = 0;  // kVerdictDegraded
};

struct StateTimes {
  Duration hold = std::chrono::minutes(10);    // the predictor's reason stays at least as long
  Duration probation = std::chrono::hours(1);  // of a node that came back; 0: none
};

class NodeState {
 public:
  explicit NodeState(StateTimes times) : times_(times) {}

  // Whether it changed anything. Said again, a reason keeps its `since` and takes the new details.
  bool apply(StateSignal signal, const SignalDetails& details, Time now);
  // Ends what time alone ends (hold, probation). Whether it changed anything.
  bool advance(Time now);
  // The wall clock was set forward (or back) by so much: what lasts for a time lasts as long as before.
  // Maintenance is at a time of the clock, as it was.
  void clock_stepped(Duration by);

  [[nodiscard]] NodeCondition condition() const;
  // The one to be shown; nullptr: up.
  [[nodiscard]] const Reason* reason() const;
  [[nodiscard]] const Reason* reason(Cause cause) const;
  [[nodiscard]] std::vector<Reason> reasons() const;
  // What was kept of an earlier one.
  void restore(std::vector<Reason> reasons);

 private:
  using Slot = std::optional<Reason>;
  [[nodiscard]] Slot& slot(Cause cause) { return slots_.at(static_cast<std::size_t>(cause)); }

  StateTimes times_;
  std::array<Slot, kCauses> slots_;
};

}  // namespace lifeboat::predictor
