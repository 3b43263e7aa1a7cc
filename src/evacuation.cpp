#include "evacuation.hpp"

#include <algorithm>

#include "agent.hpp"
#include "base/log.hpp"

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
// A maintenance window begins early enough for everything to take so much longer than predicted, and so
// much more.
constexpr double kSafety = 2;
constexpr std::chrono::seconds kSpare{60};

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
  asio::co_spawn(node_.executor(), run(), [](std::exception_ptr e) {
    if (e) log::error("the evacuation of this node failed");
  });
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
    if (!woken_) co_await pause->async_wait(use_tuple);
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
std::optional<Milliseconds> Evacuation::until_start(const MovePlan& plan) {
  const predictor::NodeState& state = node_.health().own();
  const Reason* window = state.reason(Cause::kMaintenance);
  starts_at_.clear();
  if (window == nullptr || window->until == predictor::Time{} || !began_at_.empty()) return std::nullopt;
  if (node_.config().evacuation.automatic && (state.reason(Cause::kOperator) != nullptr ||
                                              state.reason(Cause::kPredictor) != nullptr)) {
    return std::nullopt;
  }
  const auto takes = std::chrono::duration_cast<predictor::Duration>(
      std::chrono::duration<double>(plan.takes_s * kSafety));
  const predictor::Time start = window->until - takes - kSpare;
  const predictor::Time now = health_now();
  if (start <= now) return std::nullopt;
  starts_at_ = timestamp(start);
  return std::chrono::ceil<Milliseconds>(start - now);
}

// One look at how things are and what to do; returns when to look again.
awaitable<Milliseconds> Evacuation::look() {
  settle();
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
  if (!anything_due()) {
    tell_how_far();
    co_return kMovingLook;
  }
  const json::array view = co_await agent_.cluster_view(kViewLimit);
  if (std::string why = held_back_by(view); !why.empty()) {
    enter(Phase::kHeldBack, std::move(why));
    co_return kHeldLook;
  }
  json::array skipped;
  auto leavers = leavers_from(view, node_.name(), skipped);
  if (!leavers || !wanted()) co_return kMovingLook;
  std::erase_if(*leavers, [&](const Leaver& leaver) { return !is_due(leaver.id); });
  const MovePlan plan = plan_evacuation(node_.config(), view, *leavers);
  if (const auto wait = until_start(plan)) {
    enter(Phase::kWaiting, "for the latest safe start of the maintenance window");
    co_return std::min(*wait, kHeldLook);
  }
  for (const UnplacedContainer& one : plan.unplaced) set_stuck(one.container, one.why);
  for (const PlannedMove& move : plan.moves) begin(move);
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
  }
  std::erase_if(stuck_, [&](const auto& item) { return !node_.find(item.first); });
}

void Evacuation::begin(const PlannedMove& move) {
  MoveRequest request;
  request.container = move.container;
  request.target = move.to;
  request.fabric = move.fabric;
  request.mode = move.mode;
  auto report = agent_.start_migration(request);
  if (!report) {
    set_stuck(move.container, "to " + move.to + ": " + report.error().message);
    return;
  }
  log::info("evacuating", {{"container", move.container},
                           {"target", move.to},
                           {"migration", (*report)->id},
                           {"why", move.why}});
  moving_[move.container] = *report;
  started_.push_back(*report);
}

void Evacuation::set_stuck(const std::string& container, const std::string& reason) {
  Stuck& stuck = stuck_[container];
  const auto pause = std::min(kTryAgainMin * (1 << std::min(stuck.tries, 5U)), kTryAgainMax);
  ++stuck.tries;
  stuck.again_at = SteadyClock::now() + pause;
  stuck.reason = reason;
  log::error("a container cannot leave this node, which is not well",
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
    log::info("node is empty", {{"began_at", began_at_}});
  } else if (phase == Phase::kHeldBack) {
    log::error("evacuation is held back", {{"reason", text_}});
  } else {
    log::info("evacuation", {{"phase", to_string(phase_)}, {"reason", text_}});
  }
}

awaitable<Result<MovePlan>> Evacuation::plan() {
  const json::array view = co_await agent_.cluster_view(kViewLimit);
  json::array skipped;
  CO_TRY(const std::vector<Leaver> leavers, leavers_from(view, node_.name(), skipped));
  co_return plan_evacuation(node_.config(), view, leavers);
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
