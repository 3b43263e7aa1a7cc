// agent.hpp - one node's service: answers operators (api.hpp) and peers, knows how to find the
// node that has to act, and starts migrations.
//
// There is one table of methods. The local API and the peers call the same ones; a method that
// concerns another node is passed on to it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/json.hpp"
#include "evacuation.hpp"
#include "gathered.hpp"
#include "heartbeat.hpp"
#include "jobs.hpp"
#include "kept_links.hpp"
#include "node.hpp"
#include "node_watch.hpp"
#include "own_stall.hpp"
#include "peer_gate.hpp"
#include "peer_rights.hpp"
#include "registry/presence.hpp"
#include "slurm/node_sync.hpp"

namespace lifeboat {

class EmbeddedRegistry;

enum class Caller { kOperator, kPeer };

// A container of this node that is to move, and how.
struct MoveRequest {
  std::string container;
  std::string target;
  std::string fabric;
  MigrationMode mode = MigrationMode::kPreCopy;
  std::uint64_t bytes_per_s = 0;  // limit of its pages on the wire; 0: none
  std::optional<SteadyClock::time_point> leave_by;  // when it should be away
};

class Agent {
 public:
  Agent(asio::any_io_executor executor, Config config, std::string name);

  // Looks at this node, takes over what runs, opens the ports for peers. Fails when the node
  // cannot do its work at all (an address that is not here, a directory that cannot be written).
  awaitable<Status> start();

  // Runs one method; params and result are JSON objects. kNotFound: no such method.
  awaitable<Result<json::object>> handle(std::string method, json::object params, Caller caller);

  // The same on another node (or here). Tries the fabrics in turn, the default one first. `limit`, if
  // given, takes the place of timeouts.connect (of each fabric) and timeouts.request.
  awaitable<Result<json::object>> call(std::string node, std::string method, json::object params,
                                       std::optional<Milliseconds> limit = std::nullopt);
  // `method` on several nodes at once; the answers in the same order.
  awaitable<std::vector<Result<json::object>>> call_all(
      std::vector<std::string> nodes, std::string method, json::object params,
      std::optional<Milliseconds> limit = std::nullopt);
  // The node a container lives on. kNotFound says which nodes could not be asked.
  awaitable<Result<std::string>> locate(std::string container);

  // What each node says of itself (cluster_view.hpp). Those that are down are not asked.
  awaitable<json::array> cluster_view(std::optional<Milliseconds> limit = std::nullopt);
  // Begins to move a container that runs here; the report says how it goes. kNotFound, kConflict (it is
  // on the move already, or there), kRefused.
  Result<std::shared_ptr<MigrationReport>> start_migration(const MoveRequest& request);

  [[nodiscard]] Node& node() { return node_; }
  // For Prometheus, as of now (agent_metrics.cpp).
  [[nodiscard]] std::string metrics() const;
  // Once the event loop has ended: containers outlive the daemon, and what it has learned is kept.
  void end();

 private:
  awaitable<std::optional<Result<json::object>>> ask_over_kept(std::string node, json::object request,
                                                                Milliseconds limit);
  awaitable<Result<json::object>> status();
  // agent_nodes.cpp
  awaitable<Result<json::object>> node_info();
  awaitable<Result<json::object>> nodes();
  awaitable<Result<json::object>> node_method(std::string method, json::object params, Caller caller);
  awaitable<Result<json::object>> node_get(std::string name);
  awaitable<Result<json::object>> node_evacuate(json::object params);
  awaitable<Result<json::object>> node_restore(json::object params);
  awaitable<json::object> kept_state();
  [[nodiscard]] json::object down_here() const;
  awaitable<json::object> down_nodes();
  void keep_time();
  void own_state_changed();
  awaitable<void> turn_away(std::shared_ptr<Container> container, std::string reason);
  // agent_events.cpp; `limit` as in call()
  awaitable<Result<json::object>> events(json::object params, std::optional<Milliseconds> limit = std::nullopt);
  // agent_view.cpp
  awaitable<Result<json::object>> view();
  awaitable<json::object> present();
  awaitable<json::object> past();
  awaitable<Result<json::object>> containers();
  awaitable<Result<json::object>> container_create(json::object params);
  awaitable<Result<json::object>> container_remove(json::object params);
  awaitable<Result<json::object>> container_logs(json::object params, Caller caller);
  awaitable<Result<json::object>> migrate_request(json::object params, Caller caller);
  awaitable<Result<json::object>> migration_get(json::object params, Caller caller);
  awaitable<Result<json::object>> migration_cancel(json::object params, Caller caller);
  awaitable<Result<json::object>> migration_list(json::object params,
                                               std::optional<Milliseconds> limit = std::nullopt);
  awaitable<Result<json::object>> migration_plan(json::object params);
  awaitable<Result<json::object>> ask_owner(std::string method, json::object params,
                                            std::string id, Caller caller);
  awaitable<Result<json::object>> migration_outcome(json::object params);
  // agent_resolve.cpp
  awaitable<Result<json::object>> migration_resolve(json::object params);
  awaitable<Result<json::object>> migration_decide(json::object params);
  awaitable<Status> write_decision(std::string container, std::string id, std::string side);
  awaitable<json::object> registry_record(std::string container);
  json::object migration_end(const std::string& id);
  awaitable<Result<json::object>> job_method(std::string method, json::object params,
                                             Caller caller);

  awaitable<Status> open_registry_and_journal();
  void resume_migrations();
  awaitable<Status> listen();
  awaitable<void> serve_peer(Stream::Socket socket);
  // agent_peers.cpp
  Status load_credentials();
  awaitable<void> watch_certificate();
  // Who asks: kRefused when the peer is none of this cluster's nodes, or its certificate gives it another
  // role than the configuration.
  Result<Asking> identify(const PeerName& peer) const;
  [[nodiscard]] bool is_party(const std::string& method, const json::object& params,
                              const std::string& node) const;
  awaitable<void> serve_requests(Link link, Asking peer);
  awaitable<Status> check_change(const Asking& peer, const json::object& swap);
  awaitable<Status> answer_request(Link& link, Asking peer, json::object request);

  OwnStall stall_;  // before node_, whose registry asks it to the end
  Node node_;
  Jobs jobs_;
  Heartbeat heartbeat_;
  Evacuation evacuation_;
  NodeWatch watch_;
  slurm::NodeSync slurm_;
  Gathered<json::object> present_;
  Gathered<json::object> past_;
  EmbeddedRegistry* served_ = nullptr;  // if it is here
  std::optional<Presence> presence_;
  std::string started_at_;
  PeerGate gate_;
  KeptLinks kept_links_;
};

// A container as `lifeboat ps` shows it.
json::object describe(const Container& container, const Node& node);

}  // namespace lifeboat
