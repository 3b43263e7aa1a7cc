// agent.hpp - one node's service: answers operators (api.hpp) and peers, knows how to find the
// node that has to act, and starts migrations.
//
// There is one table of methods. The local API and the peers call the same ones; a method that
// concerns another node is passed on to it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/json.hpp"
#include "jobs.hpp"
#include "node.hpp"

namespace lifeboat {

enum class Caller { kOperator, kPeer };

class Agent {
 public:
  Agent(asio::any_io_executor executor, Config config, std::string name);

  // Looks at this node, takes over what runs, opens the ports for peers. Fails when the node
  // cannot do its work at all (an address that is not here, a directory that cannot be written).
  awaitable<Status> start();

  // Runs one method; params and result are JSON objects. kNotFound: no such method.
  awaitable<Result<json::object>> handle(std::string method, json::object params, Caller caller);

  // The same on another node (or here). Tries the fabrics in turn, the default one first.
  awaitable<Result<json::object>> call(std::string node, std::string method, json::object params);
  // `method` on several nodes at once; the answers in the same order.
  awaitable<std::vector<Result<json::object>>> call_all(std::vector<std::string> nodes,
                                                        std::string method, json::object params);
  // The node a container lives on. kNotFound says which nodes could not be asked.
  awaitable<Result<std::string>> locate(std::string container);

  [[nodiscard]] Node& node() { return node_; }
  // Containers outlive the daemon.
  void release_containers();

 private:
  awaitable<Result<json::object>> status();
  awaitable<Result<json::object>> node_info();
  awaitable<Result<json::object>> nodes();
  awaitable<Result<json::object>> containers();
  awaitable<Result<json::object>> container_create(json::object params);
  awaitable<Result<json::object>> container_remove(json::object params);
  awaitable<Result<json::object>> container_logs(json::object params, Caller caller);
  awaitable<Result<json::object>> migrate_request(json::object params, Caller caller);
  awaitable<Result<json::object>> migration_get(json::object params, Caller caller);
  awaitable<Result<json::object>> migration_cancel(json::object params, Caller caller);
  awaitable<Result<json::object>> migration_list();
  awaitable<Result<json::object>> migration_plan(json::object params);
  awaitable<Result<json::object>> ask_owner(std::string method, json::object params,
                                            std::string id, Caller caller);
  awaitable<Result<json::object>> migration_outcome(json::object params);
  awaitable<Result<json::object>> job_method(std::string method, json::object params,
                                             Caller caller);

  awaitable<Status> listen();
  awaitable<void> accept_peers(asio::ip::tcp::acceptor acceptor);
  awaitable<void> serve_peer(asio::ip::tcp::socket socket);

  Node node_;
  Jobs jobs_;
  std::string started_at_;
  unsigned peers_connected_ = 0;
};

// A container as `lifeboat ps` shows it.
json::object describe(const Container& container, const std::string& node);

}  // namespace lifeboat
