// The agent's methods that concern containers.
#include "agent.hpp"
#include "base/log.hpp"
#include "cluster_view.hpp"
#include "events.hpp"

namespace lifeboat {

namespace {

json::object addresses_json(const ContainerSpec& spec) {
  json::object out;
  for (const Endpoint& endpoint : spec.endpoints) out[endpoint.fabric] = endpoint.address;
  return out;
}

// Claimed, but not among the node's containers yet.
class Starting {
 public:
  Starting(Node& node, std::string id) : node_(node), id_(std::move(id)) { node_.set_starting(id_, true); }
  Starting(const Starting&) = delete;
  Starting& operator=(const Starting&) = delete;
  ~Starting() { node_.set_starting(id_, false); }

 private:
  Node& node_;
  std::string id_;
};

}  // namespace

json::object describe(const Container& container, const Node& node) {
  const ContainerSpec& spec = container.spec();
  json::object out{{"id", spec.id},
                   {"job", spec.job},
                   {"node", node.name()},
                   {"state", to_string(container.state())},
                   {"pid", container.init().pid()},
                   {"memory_bytes", spec.memory_bytes},
                   {"resident_bytes", container.resident_bytes()},
                   {"addresses", addresses_json(spec)},
                   {"migration", container.migration()},
                   {"came_from", container.origin().node},
                   {"came_at", std::chrono::system_clock::to_time_t(container.origin().at)}};
  if (const Status movable = check_user(node.facts(), container.init_uid()); !movable) {
    out["cannot_move"] = movable.error().message;
  }
  return out;
}

awaitable<Result<json::object>> Agent::containers() {
  const json::array view = co_await cluster_view();
  co_return containers_of(view);
}

awaitable<Result<json::object>> Agent::container_create(json::object params) {
  CO_TRY(const json::object* spec_json, get_object(params, "spec"));
  CO_TRY(ContainerSpec spec, container_spec_from(*spec_json));
  CO_CHECK_OK(node_.health().check_arrival());
  CO_CHECK_OK(node_.check_room(spec, Incoming::kNew));
  const std::string id = spec.id;
  const Starting starting(node_, id);
  auto claimed = co_await node_.owners().claim(id, spec.job, node_.name());
  if (!claimed) {
    co_return tl::unexpected<Error>(claimed.error().context("container " + id + " cannot be started"));
  }
  auto started = co_await Container::start(std::move(spec), node_.config());
  if (started && node_.find(id)) started = fail(Errc::kConflict, "container " + id + " came up twice");
  if (!started) {
    (void)co_await node_.owners().end(id, node_.name());
    co_return tl::unexpected<Error>(started.error());
  }
  std::shared_ptr<Container> container = std::move(*started);
  container->set_epoch(claimed->ownership.epoch);
  (void)container->set_state(ContainerState::kRunning);  // with the epoch
  node_.add(container);
  node_.watch(container);
  log::info(events::kContainerStarted, "container started", {{"container", id}});
  co_return describe(*container, node_);
}

awaitable<Result<json::object>> Agent::container_remove(json::object params) {
  CO_TRY(const std::string id, get_string(params, "id"));
  auto container = node_.find(id);
  if (!container) co_return fail(Errc::kNotFound, "no container '" + id + "' on " + node_.name());
  if (std::string lost = string_or(params, "lost"); !lost.empty()) container->set_lost(std::move(lost));
  // Killing its tasks is enough; whoever owns it now (watch or migration) cleans up.
  CO_CHECK_OK(container->cgroup().kill());
  constexpr int kTries = 250;  // of 20 ms
  for (int i = 0; i < kTries && node_.find(id) == container; ++i) {
    co_await sleep_for(Milliseconds(20));
  }
  co_return json::object{{"id", id}, {"removed", node_.find(id) != container}};
}

awaitable<Result<json::object>> Agent::container_logs(json::object params, Caller caller) {
  CO_TRY(const std::string id, get_string(params, "id"));
  const auto offset = get_u64(params, "offset").value_or(0);
  if (auto container = node_.find(id)) {
    CO_TRY(std::string text, container->output(offset));
    json::object out{{"text", text}, {"offset", offset + text.size()}, {"running", true}};
    co_return out;
  }
  for (auto ended = node_.exited().rbegin(); ended != node_.exited().rend(); ++ended) {
    if (ended->id != id) continue;
    const std::string text = offset < ended->output.size() ? ended->output.substr(offset) : "";
    json::object out{{"text", text}, {"offset", offset + text.size()}, {"running", false}};
    co_return out;
  }
  if (caller == Caller::kPeer) {
    co_return fail(Errc::kNotFound, "no container '" + id + "' on " + node_.name());
  }
  std::vector<std::string> others;
  for (const NodeConfig& node : node_.config().nodes) {
    if (node.role == NodeRole::kCompute && node.name != node_.name()) others.push_back(node.name);
  }
  auto answers = co_await call_all(others, "container.logs", std::move(params));
  for (auto& answer : answers) {
    if (answer) co_return std::move(*answer);
  }
  co_return fail(Errc::kNotFound, "no container or job '" + id + "' is known on any node that answers");
}

}  // namespace lifeboat
