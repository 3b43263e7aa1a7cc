#include "evacuation.hpp"

#include <algorithm>

#include "agent.hpp"
#include "base/log.hpp"
#include "cluster_view.hpp"
#include "events.hpp"
#include "evacuation_request.hpp"

namespace lifeboat {

using predictor::Cause;
using predictor::Reason;

namespace {

constexpr Milliseconds kMovingLook{100};
constexpr Milliseconds kIdleLook{1000};
constexpr Milliseconds kHeldLook{5000};
constexpr Milliseconds kViewLimit{2000};
constexpr Milliseconds kTryAgainMin{1000};
constexpr Milliseconds kTryAgainMax{30'000};
// How often it is planned anew while migrations go on; at once when one ends.
constexpr Milliseconds kPlanAgain{2000};
// A maintenance window begins so much before its steps must.
constexpr std::chrono::seconds kSpare{60};
// A migration that has more time than this is in no hurry.
constexpr double kHurrySeconds = 86'400;

bool is_over(const MigrationReport& report) {
  return report.outcome == Outcome::kCommitted || report.outcome == Outcome::kAborted;
}

}  // namespace

Evacuation::Evacuation(Agent& agent, Node& node) : agent_(agent), node_(node) {}

const char* Evacuation::to_string(Phase phase) {
  switch (phase) {
    case Phase::kIdle: return "idle";
    case Phase::kHeldBack: return "held back";
    case Phase::kWaiting: return "waiting";
    case Phase::kMoving: return "moving";
    case Phase::kStuck: return "stuck";
    case Phase::kEmpty: return "empty";
  }
  return "unknown";
}

void Evacuation::start() {
  run_detached(node_.executor(), "the evacuation of this node", run());
}

void Evacuation::wake() {
  woken_ = true;
  if (const auto pause = pause_.lock()) pause->cancel();
}

awaitable<void> Evacuation::run() {
  const auto pause = std::make_shared<asio::steady_timer>(node_.executor());
  pause_ = pause;
  for (;;) {
    const Milliseconds again = co_await look();
    pause->expires_after(again);
    if (!woken_) co_await expiry(*pause);
    woken_ = false;
  }
}

// Maintenance is an operator's word that it is to be empty. What else is said against the node empties
// it if that is allowed; a node that only came back keeps what it has.
bool Evacuation::wanted() const {
  const predictor::NodeState& state = node_.health().own();
  if (state.reason(Cause::kMaintenance) != nullptr) return true;
  return node_.config().evacuation.automatic && (state.reason(Cause::kOperator) != nullptr ||
                                                 state.reason(Cause::kPredictor) != nullptr);
}

// Empty: go on.
std::string Evacuation::held_back_by(const json::array& view) const {
  const predictor::NodeState& state = node_.health().own();
  const Reason* mine = state.reason(Cause::kPredictor);
  if (mine == nullptr || state.reason(Cause::kMaintenance) != nullptr ||
      state.reason(Cause::kOperator) != nullptr) {
    return "";
  }
  const std::string storm = storm_text(node_.config().evacuation, view, mine->since);
  if (storm.empty()) return "";
  return storm + "; lifeboat evacuate " + node_.name() + " moves its containers all the same";
}

// How long a maintenance window may still wait; nothing: no longer, or there is none.
std::optional<Milliseconds> Evacuation::until_start(const evacuation::Plan& plan) {
  const predictor::NodeState& state = node_.health().own();
  const Reason* window = state.reason(Cause::kMaintenance);
  starts_at_.clear();
  if (window == nullptr || window->until == predictor::Time{} || !began_at_.empty()) return std::nullopt;
  if (node_.config().evacuation.automatic && (state.reason(Cause::kOperator) != nullptr ||
                                              state.reason(Cause::kPredictor) != nullptr)) {
    return std::nullopt;
  }
  const predictor::Time now = health_now();
  const double latest_s = plan.nodes.empty() ? 0 : plan.nodes.front().latest_start_s;
  const predictor::Time start =
      now + std::chrono::duration_cast<predictor::Duration>(std::chrono::duration<double>(latest_s)) -
      kSpare;
  if (start <= now) return std::nullopt;
  starts_at_ = timestamp(start);
  return std::chrono::ceil<Milliseconds>(start - now);
}

// One look at how things are and what to do; returns when to look again.
awaitable<Milliseconds> Evacuation::look() {
  settle();
  const bool up = node_.health().own().reason() == nullptr;
  if (up && !was_up_ && node_.config().evacuation.bring_back) co_await bring_back();
  was_up_ = up;
  if (!wanted()) {
    if (phase_ != Phase::kIdle) {
      cancel_queued();
      stuck_.clear();
      enter(Phase::kIdle, "");
    }
    co_return kIdleLook;
  }
  if (node_.containers().empty()) {
    enter(Phase::kEmpty, "");
    co_return kIdleLook;
  }
  if (!anything_due() || SteadyClock::now() < plan_again_at_) {
    tell_how_far();
    co_return kMovingLook;
  }
  const json::array view = co_await agent_.cluster_view(kViewLimit);
  if (std::string why = held_back_by(view); !why.empty()) {
    enter(Phase::kHeldBack, std::move(why));
    co_return kHeldLook;
  }
  if (!wanted()) co_return kMovingLook;
  const Reason* window = node_.health().own().reason(Cause::kMaintenance);
  const auto plan = plan_of(view, window == nullptr ? predictor::Time{} : window->until);
  if (!plan) {
    enter(Phase::kStuck, plan.error().message);
    co_return kIdleLook;
  }
  if (const auto wait = until_start(*plan)) {
    enter(Phase::kWaiting, "for the latest safe start of the maintenance window");
    co_return std::min(*wait, kHeldLook);
  }
  carry_out(*plan);
  plan_again_at_ = SteadyClock::now() + kPlanAgain;
  tell_how_far();
  co_return kMovingLook;
}

void Evacuation::tell_how_far() {
  if (!moving_.empty() || stuck_.empty()) return enter(Phase::kMoving, "");
  enter(Phase::kStuck, std::to_string(stuck_.size()) + " containers cannot leave");
}

// What became of the migrations that were started.
void Evacuation::settle() {
  for (auto at = moving_.begin(); at != moving_.end();) {
    const auto& [container, report] = *at;
    if (!is_over(*report)) {
      ++at;
      continue;
    }
    if (report->outcome == Outcome::kCommitted) {
      stuck_.erase(container);
    } else if (node_.find(container) && wanted()) {
      set_stuck(container, "to " + report->target + ": " + report->error);
    }
    at = moving_.erase(at);
    plan_again_at_ = {};
  }
  std::erase_if(stuck_, [&](const auto& item) { return !node_.find(item.first); });
}

Result<evacuation::Plan> Evacuation::plan_of(const json::array& view,
                                              predictor::Time by) const {
  const predictor::NodeState& state = node_.health().own();
  evacuation::Evacuation leaving;
  leaving.node = node_.name();
  leaving.reason = evacuation::Reason::kFailing;
  const Reason* predicted = state.reason(Cause::kPredictor);
  if (predicted != nullptr && predicted->lead.count() > 0) {
    leaving.lead_s = std::chrono::duration<double>(predicted->lead).count();
  }
  if (predicted == nullptr && state.reason(Cause::kOperator) == nullptr) {
    leaving.reason = evacuation::Reason::kMaintenance;
    if (by != predictor::Time{}) {
      leaving.lead_s = std::max(0.0, std::chrono::duration<double>(by - health_now()).count());
    }
  }
  evacuation::Request request = request_from(node_.config(), view, health_now(), std::move(leaving));
  learn_from(node_.migrations(), request);
  auto plan = evacuation::plan_evacuation(request);
  if (!plan || plan->unplaced.empty()) return plan;
  // Rather to and fro than lost, or against an operator's word; but not for nothing.
  request.settings.hold_s = 0;
  auto to_and_fro = evacuation::plan_evacuation(request);
  const bool better = to_and_fro && to_and_fro->unplaced.size() < plan->unplaced.size();
  return better ? to_and_fro : plan;
}

// What left this node before it was well again, if that is wanted.
awaitable<void> Evacuation::bring_back() {
  const json::array view = co_await agent_.cluster_view(kViewLimit);
  for (const json::value& item : view) {
    const json::object& other = item.get_object();
    const std::string name = string_or(other, "name");
    if (name == node_.name()) continue;
    for (const json::object* container : objects_of(other, "containers")) {
      if (string_or(*container, "came_from") != node_.name()) continue;
      const std::string id = string_or(*container, "id");
      json::object params{{"container", id}, {"to", node_.name()}};
      auto begun = co_await agent_.call(name, "migrate", std::move(params));
      log::info("bringing back", {{"container", id},
                                  {"from", name},
                                  {"reason", begun ? "this node is well again" : begun.error().message}});
    }
  }
}

// As many as the plan has go over each fabric at once; the others follow when one of them has ended.
void Evacuation::carry_out(const evacuation::Plan& plan) {
  for (const evacuation::Cancel& one : plan.cancel) {
    const auto at = moving_.find(one.container);
    if (at != moving_.end()) (void)at->second->cancellation.request(one.why);
  }
  for (const evacuation::Unplaced& one : plan.unplaced) {
    if (one.node == node_.name() && is_due(one.container)) set_stuck(one.container, one.why);
  }
  std::map<std::string, unsigned> streams;
  for (const auto& [container, report] : moving_) ++streams[report->fabric];
  for (const evacuation::Step& step : plan.steps) {
    if (!is_due(step.container) || streams[step.fabric] >= plan.streams_per_wire) continue;
    ++streams[step.fabric];
    begin(step);
  }
}

void Evacuation::begin(const evacuation::Step& step) {
  MoveRequest request;
  request.container = step.container;
  request.target = step.to;
  request.fabric = step.fabric;
  request.mode = migration_mode_from(evacuation::to_string(step.mode)).value_or(MigrationMode::kPreCopy);
  if (step.latest_end_s < kHurrySeconds) {
    const std::chrono::duration<double> left(std::max(0.0, step.latest_end_s));
    request.leave_by = SteadyClock::now() + std::chrono::duration_cast<SteadyClock::duration>(left);
  }
  auto report = agent_.start_migration(request);
  if (!report) {
    set_stuck(step.container, "to " + step.to + ": " + report.error().message);
    return;
  }
  log::info("evacuating", {{"container", step.container},
                           {"target", step.to},
                           {"fabric", step.fabric},
                           {"migration", (*report)->id},
                           {"why", step.why}});
  moving_[step.container] = *report;
  started_.push_back(*report);
}

void Evacuation::set_stuck(const std::string& container, const std::string& reason) {
  Stuck& stuck = stuck_[container];
  const auto pause = std::min(kTryAgainMin * (1 << std::min(stuck.tries, 5U)), kTryAgainMax);
  ++stuck.tries;
  stuck.again_at = SteadyClock::now() + pause;
  stuck.reason = reason;
  log::error(events::kEvacuationStuck, "a container cannot leave this node, which is not well",
             {{"container", container},
              {"tries", std::to_string(stuck.tries)},
              {"again_in", std::to_string(pause.count() / 1000) + "s"},
              {"reason", reason}});
}

// Those on the wire are let through: undoing them would take as long.
void Evacuation::cancel_queued() {
  for (const auto& [container, report] : moving_) {
    if (report->phase == "queued") (void)report->cancellation.request("the node is up again");
  }
}

bool Evacuation::is_due(const std::string& container) const {
  const auto found = node_.find(container);
  if (!found || found->state() != ContainerState::kRunning || found->filling()) return false;
  const auto at = stuck_.find(container);
  return at == stuck_.end() || at->second.again_at <= SteadyClock::now();
}

bool Evacuation::anything_due() const {
  return std::any_of(node_.containers().begin(), node_.containers().end(),
                     [&](const auto& item) { return is_due(item.first); });
}

void Evacuation::enter(Phase phase, std::string text) {
  if (phase == phase_ && text == text_) return;
  const bool active = phase == Phase::kMoving || phase == Phase::kStuck;
  const bool was_active = phase_ == Phase::kMoving || phase_ == Phase::kStuck;
  if (phase == Phase::kIdle || (active && began_at_.empty())) {
    began_at_ = active ? timestamp_now() : "";
    started_.clear();
    for (const auto& [container, report] : moving_) started_.push_back(report);
  }
  phase_ = phase;
  text_ = std::move(text);
  if (phase != Phase::kWaiting) starts_at_.clear();
  if (phase == Phase::kEmpty && was_active) {
    log::info(events::kEvacuationDone, "node is empty", {{"began_at", began_at_}});
  } else if (phase == Phase::kHeldBack) {
    log::error(events::kEvacuationStuck, "evacuation is held back", {{"reason", text_}});
  } else if (active && !was_active) {
    log::info(events::kEvacuationBegun, "evacuation begins", {{"phase", to_string(phase_)}, {"reason", text_}});
  } else {
    log::info("evacuation", {{"phase", to_string(phase_)}, {"reason", text_}});
  }
}

awaitable<Result<evacuation::Plan>> Evacuation::plan(predictor::Time by) {
  const json::array view = co_await agent_.cluster_view(kViewLimit);
  co_return plan_of(view, by);
}

json::object Evacuation::describe(bool whole) const {
  const auto now = SteadyClock::now();
  json::array stuck;
  for (const auto& [container, one] : stuck_) {
    json::object entry{{"container", container},
                       {"reason", one.reason},
                       {"tries", one.tries},
                       {"again_in_s", std::max(0.0, elapsed_ms(now, one.again_at) / 1000)}};
    stuck.push_back(std::move(entry));
  }
  const auto moved = std::count_if(started_.begin(), started_.end(), [](const auto& report) {
    return report->outcome == Outcome::kCommitted;
  });
  json::object out{{"phase", to_string(phase_)},
                   {"text", text_},
                   {"began_at", began_at_},
                   {"starts_at", starts_at_},
                   {"moved", moved},
                   {"left", node_.containers().size()},
                   {"stuck", std::move(stuck)}};
  if (!whole) return out;
  json::array migrations;
  for (const auto& report : started_) migrations.push_back(lifeboat::to_json(*report));
  out["migrations"] = std::move(migrations);
  return out;
}

}  // namespace lifeboat
