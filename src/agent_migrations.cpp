// The agent's methods that concern migrations.
#include <algorithm>

#include "agent.hpp"
#include "base/log.hpp"
#include "cluster_view.hpp"
#include "evacuation_request.hpp"
#include "migration/source.hpp"

namespace lifeboat {

namespace {

Status check_movable(const Container& container, const std::string& target, const std::string& here) {
  const std::string& id = container.spec().id;
  if (target == here) {
    return fail(Errc::kConflict, "container " + id + " is on node " + target + " already");
  }
  if (container.state() == ContainerState::kRunning) return {};
  return fail(Errc::kConflict, "container " + id + " is " + to_string(container.state()) +
                                   (container.migration().empty()
                                        ? ""
                                        : " (migration " + container.migration() + " to " +
                                              container.migration_peer() + ")"));
}

Move move_of(std::shared_ptr<Container> container, const MoveRequest& request) {
  Move move;
  move.container = std::move(container);
  move.target = request.target;
  move.fabric = request.fabric;
  move.bytes_per_s = request.bytes_per_s;
  move.leave_by = request.leave_by;
  return move;
}

constexpr std::uint64_t kListMax = 10'000;  // more than a node remembers
constexpr std::uint64_t kBriefMax = 1000;   // below a frame's limit

void keep_last(json::array& list, std::uint64_t last) {
  if (list.size() > last) list.erase(list.begin(), list.end() - static_cast<std::ptrdiff_t>(last));
}

json::array migrations_here(const Node& node, std::uint64_t last) {
  json::array list;
  for (json::object& report : node.journal().reports(last)) {
    if (!node.migrations().contains(string_or(report, "id"))) list.push_back(std::move(report));
  }
  const auto& known = node.migrations();
  const auto skipped = known.size() > last ? known.size() - last : 0;
  for (auto at = std::next(known.begin(), static_cast<std::ptrdiff_t>(skipped)); at != known.end(); ++at) {
    list.push_back(to_json(*at->second));
  }
  keep_last(list, last);
  return list;
}

// What a list of them shows; the rest is in `lifeboat migrations ID`.
json::value in_brief(const json::value& report) {
  json::object out;
  for (const char* key : {"id", "container", "job", "source", "target", "fabric", "mode", "phase", "outcome", "error",
                          "started_at", "resident_bytes", "bytes_sent", "downtime_ms", "downtime_parts_ms",
                          "total_ms", "warnings"}) {
    if (const json::value* member = report.get_object().if_contains(key)) out[key] = *member;
  }
  return out;
}

}  // namespace

awaitable<Result<json::object>> Agent::migrate_request(json::object params, Caller caller) {
  CO_TRY(const std::string id, get_string(params, "container"));
  CO_TRY(const std::string target, get_string(params, "to"));
  const Config& config = node_.config();
  const std::string fabric = string_or(params, "fabric", config.default_fabric);
  const NodeConfig* target_node = config.find_node(target);
  if (target_node == nullptr) {
    co_return fail(Errc::kNotFound, "no node '" + target + "'; see: lifeboat nodes");
  }
  if (target_node->role == NodeRole::kHead) {
    co_return fail(Errc::kRefused, "node " + target + " is a head node: it runs no containers");
  }
  if (config.find_fabric(fabric) == nullptr) {
    std::string known;
    for (const FabricConfig& item : config.fabrics) known += " " + item.name;
    co_return fail(Errc::kNotFound, "no fabric '" + fabric + "'; known:" + known);
  }
  auto container = node_.find(id);
  if (!container || container->state() == ContainerState::kArriving) {
    if (caller == Caller::kPeer) {
      co_return fail(Errc::kNotFound, "container '" + id + "' has left node " + node_.name());
    }
    CO_TRY(std::string owner, co_await locate(id));
    co_return co_await call(std::move(owner), "migrate", std::move(params));
  }
  CO_TRY(const MigrationMode mode, migration_mode_from(string_or(params, "mode", "pre-copy")));
  MoveRequest request;
  request.container = id;
  request.target = target;
  request.fabric = fabric;
  request.mode = mode;
  request.bytes_per_s = get_u64(params, "bytes_per_s").value_or(0);
  if (flag(params, "dry_run")) {
    CO_CHECK_OK(check_movable(*container, target, node_.name()));
    Move move = move_of(container, request);
    move.report = std::make_shared<MigrationReport>();
    move.report->id = node_.new_migration_id();
    co_return co_await predict(node_, std::move(move), mode);
  }
  CO_TRY(const std::shared_ptr<MigrationReport> report, start_migration(request));
  co_return json::object{{"id", report->id}};
}

Result<std::shared_ptr<MigrationReport>> Agent::start_migration(const MoveRequest& request) {
  auto container = node_.find(request.container);
  if (!container) {
    return fail(Errc::kNotFound, "container '" + request.container + "' has left node " + node_.name());
  }
  CHECK_OK(check_movable(*container, request.target, node_.name()));
  Move move = move_of(container, request);
  move.report = node_.new_migration(*container, request.target, request.fabric);
  move.report->mode = request.mode;
  const std::shared_ptr<MigrationReport> report = move.report;
  // From here on nothing else can be begun with it, though its turn may come much later.
  auto state = container->set_state(ContainerState::kLeaving, report->id, request.target);
  if (!state) {
    // Whether or not that can be recorded: it goes on as before, and may be moved once there is room.
    (void)container->set_state(ContainerState::kRunning);
    report->outcome = Outcome::kAborted;
    report->error = state.error().message;
    node_.metrics().migration_ended(report);
    return tl::unexpected<Error>(state.error());
  }
  run_detached(node_.executor(), "migrating a container", migrate(node_, std::move(move)));
  return report;
}

// {from, to?} -> {moves: [{container, from, to}], skipped: [{container, state}]}. Nothing is moved.
awaitable<Result<json::object>> Agent::migration_plan(json::object params) {
  CO_TRY(const std::string from, get_string(params, "from"));
  const std::string to = string_or(params, "to");
  if (node_.config().find_node(from) == nullptr) {
    co_return fail(Errc::kNotFound, "no node '" + from + "'; see: lifeboat nodes");
  }
  if (from == to) co_return fail(Errc::kInvalid, "node " + to + " is where they are");
  const json::array view = co_await cluster_view();
  json::array skipped;
  CO_TRY(const std::vector<std::string> leavers, leavers_from(view, from, skipped));
  json::array moves;
  const auto add = [&](const std::string& container, const std::string& target) {
    moves.push_back(json::object{{"container", container}, {"from", from}, {"to", target}});
  };
  if (!to.empty()) {
    for (const std::string& container : leavers) add(container, to);
  } else {
    evacuation::Evacuation leaving;
    leaving.node = from;
    leaving.reason = evacuation::Reason::kMaintenance;
    evacuation::Request request = request_from(node_.config(), view, health_now(), std::move(leaving));
    CO_TRY(const evacuation::Plan plan, evacuation::plan_evacuation(request));
    if (!plan.unplaced.empty()) {
      co_return fail(Errc::kRefused, "no node has room for container " +
                                         plan.unplaced.front().container + ": " +
                                         plan.unplaced.front().why);
    }
    for (const evacuation::Step& step : plan.steps) add(step.container, step.to);
  }
  co_return json::object{{"moves", std::move(moves)}, {"skipped", std::move(skipped)}};
}

// Passes a method on to the node that gave the migration its id: "n1-mf3k2a" is of node n1.
awaitable<Result<json::object>> Agent::ask_owner(std::string method, json::object params,
                                                 std::string id, Caller caller) {
  std::string owner = id.substr(0, id.rfind('-'));
  if (caller == Caller::kPeer || owner == node_.name() ||
      node_.config().find_node(owner) == nullptr) {
    co_return fail(Errc::kNotFound, "no migration '" + id + "' is known");
  }
  co_return co_await call(std::move(owner), std::move(method), std::move(params));
}

awaitable<Result<json::object>> Agent::migration_get(json::object params, Caller caller) {
  CO_TRY(const std::string id, get_string(params, "id"));
  const auto at = node_.migrations().find(id);
  if (at != node_.migrations().end()) {
    json::object report = to_json(*at->second);
    report["history"] = node_.journal().history(id);
    co_return report;
  }
  auto kept = node_.journal().report(id);
  const bool ours = id.substr(0, id.rfind('-')) == node_.name();
  if (kept && ours) co_return std::move(*kept);
  auto answer = co_await ask_owner("migration.get", std::move(params), id, caller);
  // Its source does not say: then what this end of it has seen.
  if (!answer && kept) co_return std::move(*kept);
  co_return answer;
}

// {last?: how many at most, brief?: 1 without rounds and memory, all?: 1 for those of all nodes, in brief} ->
// {migrations, silent: names}, in the order in which they began.
awaitable<Result<json::object>> Agent::migration_list(json::object params,
                                                      std::optional<Milliseconds> limit) {
  const bool all = number_or(params, "all") != 0;
  const bool brief = all || number_or(params, "brief") != 0;
  const std::uint64_t last = std::min(get_u64(params, "last").value_or(kListMax), brief ? kBriefMax : kListMax);
  json::array list = migrations_here(node_, last);
  if (brief) std::transform(list.begin(), list.end(), list.begin(), in_brief);
  json::array silent;
  if (all) {
    const json::object asked{{"brief", 1}, {"last", last}};
    std::vector<std::string> others;
    for (const NodeConfig& node : node_.config().nodes) {
      if (node.name != node_.name() && node.role == NodeRole::kCompute) others.push_back(node.name);
    }
    const auto answers = co_await call_all(others, "migration.list", asked, limit);
    for (std::size_t i = 0; i < others.size(); ++i) {
      if (!answers[i]) silent.emplace_back(others[i]);
      if (!answers[i]) continue;
      for (const json::object* report : objects_of(*answers[i], "migrations")) list.emplace_back(*report);
    }
    std::stable_sort(list.begin(), list.end(), [](const json::value& a, const json::value& b) {
      return string_or(a.get_object(), "started_at") < string_or(b.get_object(), "started_at");
    });
  }
  keep_last(list, last);
  co_return json::object{{"migrations", std::move(list)}, {"silent", std::move(silent)}};
}

awaitable<Result<json::object>> Agent::migration_outcome(json::object params) {
  CO_TRY(const std::string id, get_string(params, "id"));
  const Outcome outcome = node_.outcome_of(id, flag(params, "renounce"));
  co_return json::object{{"id", id}, {"outcome", to_string(outcome)}};
}

awaitable<Result<json::object>> Agent::migration_cancel(json::object params, Caller caller) {
  CO_TRY(const std::string id, get_string(params, "id"));
  const auto at = node_.migrations().find(id);
  if (at == node_.migrations().end()) {
    co_return co_await ask_owner("migration.cancel", std::move(params), id, caller);
  }
  if (at->second->outcome != Outcome::kRunning) {
    co_return fail(Errc::kConflict, "migration " + id + " is over: " + to_string(at->second->outcome));
  }
  std::string reason = string_or(params, "reason", "cancelled by an operator");
  log::info("migration is being cancelled", {{"migration", id}, {"reason", reason}});
  CO_CHECK_OK(at->second->cancellation.request(std::move(reason)));
  co_return json::object{{"id", id}};
}

}  // namespace lifeboat
