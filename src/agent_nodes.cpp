// The agent's methods that concern nodes and their states.
#include <algorithm>

#include "agent.hpp"
#include "base/log.hpp"
#include "check.hpp"
#include "cluster_view.hpp"
#include "evacuation_report.hpp"

namespace lifeboat {

using predictor::Cause;
using predictor::StateSignal;
using predictor::SignalDetails;

namespace {

// What the shutdown of a node says of it; the next boot takes it back, and nothing else.
constexpr const char* kShutdown = "to be empty: it is being shut down";

constexpr Milliseconds kListenerLimit{1000};
constexpr Milliseconds kDiskLimit{2000};
constexpr std::size_t kReasonMax = 500;

const char* role_of(const NodeConfig& node) { return node.role == NodeRole::kHead ? "head" : "compute"; }

// One line, as it is logged and shown.
Result<std::string> reason_of(const json::object& params) {
  TRY(const std::string reason, get_string(params, "reason"));
  const bool line = std::none_of(reason.begin(), reason.end(),
                                 [](unsigned char c) { return std::iscntrl(c) != 0; });
  if (reason.empty() || reason.size() > kReasonMax || !line) {
    return fail(Errc::kInvalid, "a reason is one line of 1 to " + std::to_string(kReasonMax) + " bytes");
  }
  return reason;
}

void add_all(json::object& to, const json::object& from) {
  for (const auto& item : from) to[item.key()] = item.value();
}

}  // namespace

awaitable<Result<json::object>> Agent::node_info() {
  CO_TRY(json::object out, co_await status());
  const NodeConfig& self = node_.self();
  const std::uint64_t reserved = node_.memory_reserved_bytes();
  const auto count = static_cast<int>(node_.containers().size());
  out["slots"] = self.slots;
  out["slots_free"] = count >= self.slots ? 0 : self.slots - count;
  out["memory_bytes"] = self.memory_bytes;
  out["memory_free_bytes"] = reserved >= self.memory_bytes ? 0 : self.memory_bytes - reserved;
  json::array list;
  for (const auto& [id, container] : node_.containers()) {
    list.push_back(describe(*container, node_));
  }
  out["containers"] = std::move(list);
  json::array migrations;
  for (const auto& [id, report] : node_.migrations()) {
    if (report->outcome == Outcome::kRunning || report->outcome == Outcome::kInDoubt) {
      migrations.push_back(to_json(*report));
    }
  }
  out["migrations"] = std::move(migrations);
  json::array lost;
  for (const ExitedContainer& ended : node_.exited()) {
    if (!ended.lost.empty()) lost.push_back(json::object{{"id", ended.id}, {"reason", ended.lost}, {"at", ended.at}});
  }
  out["lost"] = std::move(lost);
  add_all(out, to_json(node_.health().own()));
  out["evacuation"] = evacuation_.describe(false);
  if (node_.config().slurm.enabled && self.role == NodeRole::kHead) out["slurm"] = jobs_.slurm_view();
  co_return out;
}

// The nodes that are down by the table of this node: {name: state}.
json::object Agent::down_here() const {
  json::object down;
  for (const auto& [name, state] : node_.health().all()) {
    if (name != node_.name() && state.reason(Cause::kHeartbeat) != nullptr) down[name] = to_json(state);
  }
  return down;
}

// The same, of the first that listens for heartbeats and answers.
awaitable<json::object> Agent::down_nodes() {
  for (const std::string& listener : heartbeat_listeners(node_.config())) {
    if (listener == node_.name()) co_return down_here();
    auto answer = co_await call(listener, "node.down", json::object{}, kListenerLimit);
    if (answer && answer->contains("down")) co_return members_of(*answer, "down");
  }
  co_return json::object{};
}

awaitable<json::array> Agent::cluster_view(std::optional<Milliseconds> limit) {
  const json::object down = co_await down_nodes();
  std::vector<std::string> asked;
  for (const NodeConfig& node : node_.config().nodes) {
    if (!down.contains(node.name) || node.name == node_.name()) asked.push_back(node.name);
  }
  const auto answers = co_await call_all(asked, "node.info", json::object{}, limit);
  json::array list;
  std::size_t next = 0;
  for (const NodeConfig& node : node_.config().nodes) {
    json::object entry{{"name", node.name}, {"role", role_of(node)}};
    if (next == asked.size() || asked[next] != node.name) {
      const json::object& state = down.at(node.name).get_object();
      entry["reachable"] = false;
      entry["error"] = why_closed(node.name, state);
      add_all(entry, state);
      list.push_back(std::move(entry));
      continue;
    }
    const auto& answer = answers[next++];
    entry["reachable"] = answer.has_value();
    if (answer) {
      for (const auto& item : *answer) {
        if (item.key() != "node" && item.key() != "role") entry[item.key()] = item.value();
      }
    } else {
      entry["error"] = answer.error().message;
    }
    list.push_back(std::move(entry));
  }
  co_return list;
}

awaitable<Result<json::object>> Agent::nodes() {
  json::array view = co_await cluster_view();
  co_return json::object{{"nodes", std::move(view)}};
}

// Methods node.*; those with a member `node` concern that one.
awaitable<Result<json::object>> Agent::node_method(std::string method, json::object params,
                                                   Caller caller) {
  if (method == "node.info") co_return co_await node_info();
  if (method == "node.state") co_return to_json(node_.health().own());
  if (method == "node.down") co_return json::object{{"down", down_here()}};
  if (method == "node.fill") {
    CO_TRY(const std::uint64_t bytes, get_u64(params, "bytes"));
    co_return json::object{{"fill", std::string(std::min<std::uint64_t>(bytes, kFillBytesMax), 'x')}};
  }
  CO_TRY(const std::string name, get_string(params, "node"));
  if (node_.config().find_node(name) == nullptr) {
    co_return fail(Errc::kNotFound, "no node '" + name + "'; see: lifeboat nodes");
  }
  if (method == "node.get" && caller == Caller::kOperator) co_return co_await node_get(name);
  if (name != node_.name()) {
    if (caller == Caller::kPeer) {
      co_return fail(Errc::kProtocol, method + " for node " + name + " came to " + node_.name());
    }
    co_return co_await call(name, std::move(method), std::move(params));
  }
  if (method == "node.get") {
    CO_TRY(json::object info, co_await node_info());
    info["evacuation"] = evacuation_.describe(true);
    co_return info;
  }
  if (method == "node.degrade" || method == "node.back") {
    SignalDetails details;
    CO_TRY(details.text, reason_of(params));
    const StateSignal signal = method == "node.back" ? StateSignal::kHeartbeatBack : StateSignal::kDegrade;
    node_.health().apply(name, signal, details);
    co_return co_await kept_state();
  }
  if (method == "node.restore") co_return co_await node_restore(std::move(params));
  if (method == "node.plan") params["dry_run"] = true;  // the same, for those who may only look
  if (method == "node.evacuate" || method == "node.plan") co_return co_await node_evacuate(std::move(params));
  co_return fail(Errc::kNotFound, "no method '" + method + "'");
}

// As the node says, with all migrations of its evacuation; or as those that listen for it say.
awaitable<Result<json::object>> Agent::node_get(std::string name) {
  json::object out{{"name", name}, {"role", role_of(*node_.config().find_node(name))}};
  const json::object down = co_await down_nodes();
  const json::value* silent = down.if_contains(name);
  if (silent != nullptr) {
    add_all(out, silent->get_object());
    out["reachable"] = false;
    co_return out;
  }
  json::object params{{"node", name}};
  auto info = co_await call(name, "node.get", std::move(params));
  out["reachable"] = info.has_value();
  if (info) {
    add_all(out, *info);
  } else {
    out["error"] = info.error().message;
  }
  co_return out;
}

// This node's own state, once it is on disk: what a person has said must outlive a power cut. A disk that hangs is not
// waited for until who has asked gives up.
awaitable<json::object> Agent::kept_state() {
  co_await node_.health().settled(std::min(kDiskLimit, node_.config().timeouts.request / 2));
  co_return to_json(node_.health().own());
}

awaitable<Result<json::object>> Agent::node_restore(json::object params) {
  if (flag(params, "shutdown")) {
    const predictor::Reason* window = node_.health().own().reason(predictor::Cause::kMaintenance);
    if (window != nullptr && window->text == kShutdown) {
      node_.health().apply(node_.name(), StateSignal::kMaintenanceOver, {});
    }
    co_return co_await kept_state();
  }
  if (node_.health().own().reason() == nullptr) {
    co_return fail(Errc::kConflict, "node " + node_.name() + " is up already");
  }
  SignalDetails details;
  if (params.contains("reason")) {
    CO_TRY(details.text, reason_of(params));
  }
  node_.health().apply(node_.name(), StateSignal::kRestore, details);
  co_return co_await kept_state();
}

// {node, dry_run?, by?: microseconds since 1970, shutdown?} -> the plan and, unless dry_run, the node's new state.
awaitable<Result<json::object>> Agent::node_evacuate(json::object params) {
  const predictor::Time by(
      predictor::Duration(static_cast<std::int64_t>(get_u64(params, "by").value_or(0))));
  if (by != predictor::Time{} && by <= health_now()) {
    co_return fail(Errc::kInvalid, timestamp(by) + " is over");
  }
  CO_TRY(const evacuation::Plan plan, co_await evacuation_.plan(by));
  json::object out = evacuation::to_json(plan);
  out["text"] = evacuation::to_text(plan);
  if (!flag(params, "dry_run")) {
    SignalDetails details;
    details.text = "to be empty, by an operator's word";
    details.until = by;
    if (by != predictor::Time{}) {
      details.text = "to be empty by " + timestamp(by) + ", by an operator's word";
    }
    if (flag(params, "shutdown")) details.text = kShutdown;
    node_.health().apply(node_.name(), StateSignal::kMaintenance, details);
    add_all(out, co_await kept_state());
  }
  co_return out;
}

// What is to happen by time alone, and after each change of this node's state.
void Agent::keep_time() {
  node_.health().on_own_change([this] { own_state_changed(); });
  const auto tick = [](Health& health) -> awaitable<void> {
    for (;;) {
      co_await sleep_for(Milliseconds(1000));
      health.tick();
    }
  };
  run_detached(node_.executor(), "keeping the time of node states", tick(node_.health()));
}

void Agent::own_state_changed() {
  evacuation_.wake();
  slurm_.wake();
  auto open = node_.health().check_arrival();
  if (open) return;
  for (const auto& [id, container] : node_.containers()) {
    if (container->state() != ContainerState::kArriving) continue;
    run_detached(node_.executor(), "turning a migration away", turn_away(container, open.error().message));
  }
}

// Before its commit the source plans anew; after it, it leaves again with the others.
awaitable<void> Agent::turn_away(std::shared_ptr<Container> container, std::string reason) {
  json::object params{{"id", container->migration()}, {"reason", std::move(reason)}};
  auto told = co_await call(container->migration_peer(), "migration.cancel", std::move(params));
  if (told) co_return;
  log::info("an arriving container was not turned away", {{"container", container->spec().id},
                                                         {"reason", told.error().message}});
}

}  // namespace lifeboat
