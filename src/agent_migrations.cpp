// The agent's methods that concern migrations.
#include "agent.hpp"
#include "base/log.hpp"
#include "migration/source.hpp"
#include "planner.hpp"

namespace lifeboat {

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
  if (target == node_.name()) {
    co_return fail(Errc::kConflict, "container " + id + " is on node " + target + " already");
  }
  if (container->state() != ContainerState::kRunning) {
    co_return fail(Errc::kConflict, "container " + id + " is " + to_string(container->state()) +
                                        (container->migration().empty()
                                             ? ""
                                             : " (migration " + container->migration() + " to " +
                                                   container->migration_peer() + ")"));
  }
  CO_TRY(const MigrationMode mode, migration_mode_from(string_or(params, "mode", "pre-copy")));
  Move move;
  move.container = container;
  move.target = target;
  move.fabric = fabric;
  move.bytes_per_s = get_u64(params, "bytes_per_s").value_or(0);
  const json::value* dry = params.if_contains("dry_run");
  if (dry != nullptr && dry->is_bool() && dry->get_bool()) {
    move.report = std::make_shared<MigrationReport>();
    move.report->id = node_.new_migration_id();
    co_return co_await predict(node_, std::move(move), mode);
  }
  move.report = node_.new_migration(*container, target, fabric);
  move.report->mode = mode;
  const std::string migration = move.report->id;
  // From here on nothing else can be begun with it, though its turn may come much later.
  if (auto state = container->set_state(ContainerState::kLeaving, migration, target); !state) {
    move.report->outcome = Outcome::kAborted;
    move.report->error = state.error().message;
    co_return tl::unexpected<Error>(state.error());
  }
  asio::co_spawn(node_.executor(), migrate(node_, std::move(move)),
                 [](std::exception_ptr e, const Status&) {
                   if (e) log::error("migration failed unexpectedly");
                 });
  co_return json::object{{"id", migration}};
}

namespace {

// The compute nodes that take containers, as they said of themselves.
std::vector<NodeRoom> rooms_of(const json::array& nodes) {
  std::vector<NodeRoom> rooms;
  for (const json::value& item : nodes) {
    const json::object& node = item.get_object();
    if (!node.contains("memory_free_bytes") || string_or(node, "role") != "compute") continue;
    if (string_or(node, "criu").empty()) continue;
    NodeRoom room;
    room.name = string_or(node, "name");
    room.memory_free_bytes = get_u64(node, "memory_free_bytes").value_or(0);
    room.slots_free = static_cast<unsigned>(get_u64(node, "slots_free").value_or(0));
    rooms.push_back(std::move(room));
  }
  return rooms;
}

// What lives on node `from`. Those that are on the move already are skipped and named.
Result<std::vector<Leaver>> leavers_from(const json::array& nodes, const std::string& from,
                                         json::array& skipped) {
  std::vector<Leaver> leavers;
  for (const json::value& item : nodes) {
    const json::object& node = item.get_object();
    if (string_or(node, "name") != from) continue;
    auto list = get_array(node, "containers");
    if (!list) {
      return fail(Errc::kUnavailable, "node " + from + " does not answer: " + string_or(node, "error"));
    }
    for (const json::value& entry : **list) {
      const json::object& container = entry.get_object();
      const std::string id = string_or(container, "id");
      if (string_or(container, "state") != to_string(ContainerState::kRunning)) {
        json::object other{{"container", id}, {"state", string_or(container, "state")}};
        skipped.push_back(std::move(other));
        continue;
      }
      Leaver leaver;
      leaver.id = id;
      leaver.node = from;
      leaver.memory_bytes = get_u64(container, "memory_bytes").value_or(0);
      leavers.push_back(std::move(leaver));
    }
  }
  return leavers;
}

}  // namespace

// {from, to?} -> {moves: [{container, from, to}], skipped: [{container, state}]}. Nothing is moved.
awaitable<Result<json::object>> Agent::migration_plan(json::object params) {
  CO_TRY(const std::string from, get_string(params, "from"));
  const std::string to = string_or(params, "to");
  if (node_.config().find_node(from) == nullptr) {
    co_return fail(Errc::kNotFound, "no node '" + from + "'; see: lifeboat nodes");
  }
  if (from == to) co_return fail(Errc::kInvalid, "node " + to + " is where they are");
  CO_TRY(const json::object all, co_await this->nodes());
  const json::array& list = all.at("nodes").get_array();
  json::array skipped;
  CO_TRY(const std::vector<Leaver> leavers, leavers_from(list, from, skipped));
  std::vector<std::string> targets(leavers.size(), to);
  if (to.empty()) {
    CO_TRY(targets, place_leavers(rooms_of(list), leavers));
  }
  json::array moves;
  for (std::size_t i = 0; i < leavers.size(); ++i) {
    json::object move{{"container", leavers[i].id}, {"from", from}, {"to", targets[i]}};
    moves.push_back(std::move(move));
  }
  json::object plan{{"moves", std::move(moves)}, {"skipped", std::move(skipped)}};
  co_return plan;
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
  if (at != node_.migrations().end()) co_return to_json(*at->second);
  co_return co_await ask_owner("migration.get", std::move(params), id, caller);
}

awaitable<Result<json::object>> Agent::migration_list() {
  json::array list;
  for (const auto& [id, report] : node_.migrations()) list.push_back(to_json(*report));
  co_return json::object{{"migrations", std::move(list)}};
}

awaitable<Result<json::object>> Agent::migration_outcome(json::object params) {
  CO_TRY(const std::string id, get_string(params, "id"));
  co_return json::object{{"id", id}, {"outcome", to_string(node_.outcome_of(id))}};
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
  CO_CHECK_OK(at->second->cancellation.request());
  log::info("migration cancelled by an operator", {{"migration", id}});
  co_return json::object{{"id", id}};
}

}  // namespace lifeboat
