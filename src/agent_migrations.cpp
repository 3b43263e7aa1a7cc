// The agent's methods that concern migrations.
#include "agent.hpp"
#include "base/log.hpp"
#include "migration/source.hpp"

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
  if (node_.leaving() >= static_cast<std::size_t>(config.limits.migrations_per_node)) {
    co_return fail(Errc::kConflict,
                   "node " + node_.name() + " is moving " + std::to_string(node_.leaving()) +
                       " containers already, as many as limits.migrations_per_node allows");
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
  asio::co_spawn(node_.executor(), migrate(node_, std::move(move)),
                 [](std::exception_ptr e, const Status&) {
                   if (e) log::error("migration failed unexpectedly");
                 });
  co_return json::object{{"id", migration}};
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
