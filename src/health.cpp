#include "health.hpp"

#include "base/log.hpp"
#include "events.hpp"
#include "report.hpp"

namespace lifeboat {

using predictor::NodeCondition;
using predictor::NodeState;
using predictor::Reason;
using predictor::Time;

namespace {
constexpr std::size_t kChangesKept = 1000;

void tell_not_kept(const std::string& node, const std::string& reason) {
  log::error("the state of a node is not kept: a restart would forget it", {{"node", node}, {"reason", reason}});
}
}  // namespace

Health::Health(const HealthConfig& config, std::string self) : self_(std::move(self)) {
  times_.hold = config.hold;
  times_.probation = config.probation;
  states_.emplace(self_, NodeState(times_));
}

Status Health::open(const std::string& path) {
  TRY(predictor::NodeJournal journal, predictor::NodeJournal::open(path));
  if (!journal.problem().empty()) {
    log::error("the states of nodes are not kept: a restart would forget what changes",
               {{"reason", journal.problem()}});
  }
  if (journal.unreadable() > 0) {
    log::warn("lines of the journal of node states could not be read",
              {{"file", path}, {"lines", std::to_string(journal.unreadable())}});
  }
  for (const auto& [node, reasons] : journal.kept()) state_of(node).restore(reasons);
  journal_ = std::move(journal);
  disk_ = std::make_unique<DiskThread>();
  if (const Reason* reason = own().reason()) {
    log::warn("node is not up, as before", {{"state", std::string(to_string(reason->condition))},
                                    {"cause", std::string(to_string(reason->cause))},
                                    {"reason", reason->text}});
  }
  return {};
}

awaitable<void> Health::settled(Milliseconds limit) {
  if (disk_) co_await disk_->settled(limit);
}

NodeState& Health::state_of(const std::string& node) {
  return states_.try_emplace(node, times_).first->second;
}

bool Health::apply(const std::string& node, predictor::StateSignal signal,
                   const predictor::SignalDetails& details) {
  const Time now = health_now();
  if (!state_of(node).apply(signal, details, now)) return false;
  keep(node, to_string(signal), details.text, now);
  return true;
}

void Health::tick(Time now, SteadyClock::time_point steady) {
  constexpr predictor::Duration kStep = std::chrono::seconds(2);  // less is a clock being slewed
  const auto passed = std::chrono::duration_cast<predictor::Duration>(steady - ticked_steady_);
  const predictor::Duration step = now - ticked_ - passed;
  const bool stepped = ticked_ != Time{} && std::chrono::abs(step) > kStep;
  ticked_ = now;
  ticked_steady_ = steady;
  for (auto& [node, state] : states_) {
    if (stepped && state.reason() != nullptr) {
      state.clock_stepped(step);
      keep(node, "the clock was set", "", now);
    }
    if (state.advance(now)) keep(node, "time", "", now);
  }
}

void Health::keep(const std::string& node, std::string_view change, const std::string& why,
                  Time now) {
  const NodeState& state = states_.at(node);
  if (disk_) {
    const bool taken = disk_->post([this, node, said = std::string(change), state, now] {
      auto kept = journal_->append(node, said, state, now);
      if (!kept) tell_not_kept(node, kept.error().message);
    });
    if (!taken) tell_not_kept(node, "too much waits for the disk");
  }
  const Reason* reason = state.reason();
  changes_.push_back({{"t", now.time_since_epoch().count()},
                      {"event", events::kNodeState.name},
                      {"of", node},
                      {"state", to_string(state.condition())},
                      {"change", change},
                      {"cause", reason == nullptr ? "" : to_string(reason->cause)},
                      {"reason", reason == nullptr ? why : reason->text}});
  if (changes_.size() > kChangesKept) changes_.pop_front();
  if (reason == nullptr) {
    log::info(events::kNodeState, "node is up",
              {{"node", node}, {"state", "up"}, {"change", std::string(change)}, {"reason", why}});
  } else {
    log::warn(events::kNodeState, "node is not up",
              {{"node", node},
               {"state", std::string(to_string(reason->condition))},
               {"change", std::string(change)},
               {"cause", std::string(to_string(reason->cause))},
               {"reason", reason->text}});
    for (const std::string& line : reason->evidence) log::warn("evidence", {{"event", line}});
  }
  if (node == self_ && on_own_change_) on_own_change_();
}

const Reason* Health::silence(const std::string& node) const {
  const auto at = states_.find(node);
  return at == states_.end() ? nullptr : at->second.reason(predictor::Cause::kHeartbeat);
}

Status Health::check_arrival() const {
  if (own().condition() == NodeCondition::kUp) return {};
  return fail(Errc::kRefused, why_closed(self_, to_json(own())));
}

Time health_now() {
  return std::chrono::time_point_cast<predictor::Duration>(std::chrono::system_clock::now());
}

json::object to_json(const NodeState& state) {
  const Reason* shown = state.reason();
  const Reason& reason = shown == nullptr ? Reason{} : *shown;
  json::array all;
  for (const Reason& each : state.reasons()) all.push_back(predictor::to_json(each));
  return {{"state", to_string(state.condition())},
          {"cause", shown == nullptr ? "" : to_string(reason.cause)},
          {"reason", reason.text},
          {"since", shown == nullptr ? "" : timestamp(reason.since)},
          {"lead_s", std::chrono::duration<double>(reason.lead).count()},
          {"risk", reason.risk},
          {"evidence", to_array(reason.evidence)},
          {"reasons", std::move(all)}};
}

std::string why_closed(const std::string& node, const json::object& state) {
  const std::string condition = string_or(state, "state", "up");
  if (condition == to_string(NodeCondition::kUp)) return "";
  return "node " + node + " is " + condition + " since " + string_or(state, "since") + " (" +
         string_or(state, "cause") + "): " + string_or(state, "reason");
}

}  // namespace lifeboat
