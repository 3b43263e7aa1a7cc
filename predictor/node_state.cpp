#include "predictor/node_state.hpp"

#include <algorithm>

#include "predictor/enum_text.hpp"

namespace lifeboat::predictor {
namespace {

constexpr std::array<std::string_view, 3> kConditionNames{"up", "degraded", "down"};
constexpr std::array<std::string_view, kCauses> kCauseNames{"heartbeat", "operator", "maintenance",
                                                            "predictor", "probation"};
constexpr std::array<std::string_view, kSignals> kSignalNames{
    "verdict-degraded", "verdict-down", "verdict-cleared", "degrade",     "restore",
    "heartbeat-lost",   "heartbeat-back", "repaired",      "maintenance", "maintenance-over",
    "heartbeat-first"};

// What a signal does to the reasons. The order is that of StateSignal.
struct Rule {
  StateSignal signal;
  std::array<bool, kCauses> takes;  // heartbeat, operator, maintenance, predictor, probation
  std::optional<Cause> gives;
  NodeCondition condition;  // of what it gives
};

constexpr auto kDegraded = NodeCondition::kDegraded;
constexpr auto kDown = NodeCondition::kDown;

// A repair takes back what was predicted of the parts before it. A node that comes back by itself may
// still have them: the predictor's word stays, unless it was only that the node is down.
constexpr std::array<Rule, kSignals> kRules{{
    // signal                   beat   oper.  maint. pred.  prob.   gives
    {StateSignal::kVerdictDegraded, {false, false, false, false, false}, Cause::kPredictor, kDegraded},
    {StateSignal::kVerdictDown,     {false, false, false, false, false}, Cause::kPredictor, kDown},
    {StateSignal::kVerdictCleared,  {false, false, false, true,  false}, std::nullopt, kDegraded},
    {StateSignal::kDegrade,         {false, false, false, false, false}, Cause::kOperator, kDegraded},
    {StateSignal::kRestore,         {false, true,  true,  true,  true},  std::nullopt, kDegraded},
    {StateSignal::kHeartbeatLost,   {false, false, false, false, false}, Cause::kHeartbeat, kDown},
    {StateSignal::kHeartbeatBack,   {true,  false, false, false, false}, Cause::kProbation, kDegraded},
    {StateSignal::kRepaired,        {true,  false, false, true,  false}, Cause::kProbation, kDegraded},
    {StateSignal::kMaintenance,     {false, false, false, false, false}, Cause::kMaintenance, kDegraded},
    {StateSignal::kMaintenanceOver, {false, false, true,  false, false}, std::nullopt, kDegraded},
    {StateSignal::kHeartbeatFirst,  {true,  false, false, false, false}, std::nullopt, kDegraded},
}};

}  // namespace

std::string_view to_string(NodeCondition condition) {
  return kConditionNames.at(static_cast<std::size_t>(condition));
}
std::string_view to_string(Cause cause) { return kCauseNames.at(static_cast<std::size_t>(cause)); }
std::string_view to_string(StateSignal signal) { return kSignalNames.at(static_cast<std::size_t>(signal)); }

Result<NodeCondition> node_condition_from(std::string_view text) {
  return enum_from<NodeCondition>(kConditionNames, "state", text);
}
Result<Cause> cause_from(std::string_view text) { return enum_from<Cause>(kCauseNames, "cause", text); }

bool NodeState::apply(StateSignal signal, const SignalDetails& details, Time now) {
  const auto before = slots_;
  const Rule& rule = kRules.at(static_cast<std::size_t>(signal));
  for (std::size_t i = 0; i < kCauses; ++i) {
    if (!rule.takes.at(i) || !slots_.at(i)) continue;
    // One verdict may follow the other: containers are not to go and come with each of them.
    const bool held = signal == StateSignal::kVerdictCleared && now < slots_.at(i)->since + times_.hold;
    if (held) {
      slots_.at(i)->cleared = true;
    } else {
      slots_.at(i).reset();
    }
  }
  // What was only seen as `down` is seen otherwise now.
  Slot& predicted = slot(Cause::kPredictor);
  if (signal == StateSignal::kHeartbeatBack && predicted && predicted->condition == kDown) predicted.reset();
  const bool trusted = rule.gives == Cause::kProbation && times_.probation == Duration(0);
  if (rule.gives && !trusted) {
    Slot& mine = slot(*rule.gives);
    const bool again = mine && mine->condition == rule.condition;
    Reason reason;
    reason.cause = *rule.gives;
    reason.condition = rule.condition;
    reason.text = details.text;
    reason.evidence = details.evidence;
    reason.since = again ? mine->since : now;
    reason.until = *rule.gives == Cause::kProbation ? now + times_.probation : details.until;
    reason.lead = details.lead;
    reason.risk = details.risk;
    mine = std::move(reason);
  }
  return slots_ != before;
}

bool NodeState::advance(Time now) {
  bool changed = false;
  if (Slot& predicted = slot(Cause::kPredictor);
      predicted && predicted->cleared && now >= predicted->since + times_.hold) {
    predicted.reset();
    changed = true;
  }
  if (Slot& probation = slot(Cause::kProbation); probation && now >= probation->until) {
    probation.reset();
    changed = true;
  }
  return changed;
}

void NodeState::clock_stepped(Duration by) {
  for (Slot& slot : slots_) {
    if (!slot) continue;
    slot->since += by;
    if (slot->cause == Cause::kProbation) slot->until += by;
  }
}

NodeCondition NodeState::condition() const {
  const Reason* shown = reason();
  return shown == nullptr ? NodeCondition::kUp : shown->condition;
}

const Reason* NodeState::reason() const {
  const Reason* shown = nullptr;
  for (const Slot& slot : slots_) {
    if (slot && (shown == nullptr || slot->condition > shown->condition)) shown = &*slot;
  }
  return shown;
}

const Reason* NodeState::reason(Cause cause) const {
  const Slot& slot = slots_.at(static_cast<std::size_t>(cause));
  return slot ? &*slot : nullptr;
}

std::vector<Reason> NodeState::reasons() const {
  std::vector<Reason> all;
  for (const Slot& slot : slots_) {
    if (slot) all.push_back(*slot);
  }
  return all;
}

void NodeState::restore(std::vector<Reason> reasons) {
  slots_ = {};
  for (Reason& reason : reasons) slot(reason.cause) = std::move(reason);
}

}  // namespace lifeboat::predictor
