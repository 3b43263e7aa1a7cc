#include "agent.hpp"

#include <algorithm>

#include "base/file.hpp"
#include "base/log.hpp"
#include "base/tcp_listen.hpp"
#include "check.hpp"
#include "migration/decide.hpp"
#include "metrics_server.hpp"
#include "migration/drain.hpp"
#include "migration/outcome.hpp"
#include "migration/source.hpp"
#include "migration/target.hpp"
#include "registry/embedded.hpp"
#include "registry/open.hpp"
#include "registry/remote.hpp"

namespace lifeboat {

using asio::ip::tcp;
using protocol::Kind;

namespace {

// How old what view() shows may be: migrations that go on are looked at, what is over is rarely news.
constexpr Milliseconds kPresentLasts{800};
constexpr Milliseconds kPastLasts{5'000};

}  // namespace

Agent::Agent(asio::any_io_executor executor, Config config, std::string name)
    : node_(std::move(executor), std::move(config), std::move(name)),
      jobs_(*this, node_),
      heartbeat_(node_, stall_),
      evacuation_(*this, node_),
      watch_(node_.executor(), node_.config(), node_.name(), node_.health()),
      slurm_(node_),
      present_(kPresentLasts, [this] { return present(); }),
      past_(kPastLasts, [this] { return past(); }),
      started_at_(timestamp_now()),
      gate_({static_cast<std::size_t>(node_.config().security.connections),
             static_cast<std::size_t>(node_.config().security.connections_per_peer),
             static_cast<double>(node_.config().security.requests_per_s)}) {}

awaitable<Status> Agent::start() {
  const Config& config = node_.config();
  run_detached(node_.executor(), "watching for stalls", stall_.watch());
  CO_CHECK_OK(load_credentials());
  CO_CHECK_OK(make_directories(config.paths.run_dir + "/containers"));
  if (!is_on_tmpfs(config.paths.run_dir)) {
    log::warn("images of containers touch a disk on their way; put a tmpfs there",
              {{"paths.run_dir", config.paths.run_dir}});
  }
  CO_CHECK_OK(make_directories(config.paths.state_dir + "/jobs"));
  CO_CHECK_OK(node_.health().open(config.paths.state_dir + "/node-states.jsonl"));
  CO_CHECK_OK(co_await open_registry_and_journal());
  node_.set_facts(co_await gather_facts(config));
  if (node_.facts().criu_version == 0) {
    log::warn("no container can be moved from or to this node",
              {{"reason", node_.facts().criu_problem}});
  }
  if (!node_.facts().tracking_problem.empty()) {
    log::warn("no memory can be sent while its container runs: downtimes will be long",
              {{"reason", node_.facts().tracking_problem}});
  }
  co_await node_.adopt_all();
  node_.settle_outcomes();
  resume_migrations();
  for (const auto& [id, container] : node_.containers()) {
    run_detached(node_.executor(), "adopting a pager", adopt_pager(node_, container));
  }
  jobs_.adopt_all();
  CO_CHECK_OK(co_await listen());
  std::function<std::string()> page = [this] { return metrics(); };
  CO_CHECK_OK(co_await serve_metrics(config.metrics, std::move(page)));
  // What is compared with the registry once the others can reach this node.
  presence_.emplace(node_.owners(), node_.name(), config.registry.lease,
                    [this] { return node_.reconcile(); });
  run_detached(node_.executor(), "keeping this node's lease", presence_->keep());
  run_detached(node_.executor(), "looking after the containers", node_.look_after_containers());
  keep_time();
  heartbeat_.start();
  evacuation_.start();
  if (node_.self().role == NodeRole::kCompute) watch_.start();
  if (config.slurm.enabled && node_.self().role == NodeRole::kCompute) slurm_.start();
  if (config.slurm.enabled && node_.self().role == NodeRole::kHead) jobs_.follow_slurm();
  if (node_.credentials()) run_detached(node_.executor(), "watching this node's certificate", watch_certificate());
  co_return Status{};
}

awaitable<Status> Agent::open_registry_and_journal() {
  const Config& config = node_.config();
  auto registry = open_registry(node_.executor(), config, node_.link_self(), [this] { return stall_.now(); });
  if (!registry) co_return tl::unexpected<Error>(registry.error());
  if (keeps_registry(config, node_.name())) served_ = static_cast<EmbeddedRegistry*>(registry->get());
  node_.set_registry(std::move(*registry));
  // On a disk that went read-only, too, containers can be got off this node.
  if (const Status opened = node_.journal().open(config.paths.state_dir + "/migrations.jsonl"); !opened) {
    log::error("the journal of migrations cannot be written: a restart will forget them",
               {{"reason", opened.error().message}});
  }
  co_return Status{};
}

namespace {

awaitable<void> resolve_found(Node& node, std::shared_ptr<Container> container) {
  const bool committed = co_await resolve(node, std::move(container), "found in doubt by a restarted lifeboatd");
  node.metrics().interrupted_ended(committed);
}

}  // namespace

// What an earlier daemon had begun.
void Agent::resume_migrations() {
  const Node::Containers found = node_.containers();  // what is decided at once is removed at once
  for (const auto& [id, container] : found) {
    switch (container->state()) {
      case ContainerState::kInDoubt:
        run_detached(node_.executor(), "resolving what was found", resolve_found(node_, container));
        break;
      case ContainerState::kDraining:
        node_.metrics().interrupted_ended(true);
        run_detached(node_.executor(), "the end of a migration", finish_draining(node_, container));
        break;
      case ContainerState::kLeaving:  // before anybody else could have it
        run_detached(node_.executor(), "resuming a container", resume_left_over(container));
        break;
      case ContainerState::kArriving:
        run_detached(node_.executor(), "resolving an arrival", resolve_arrival(node_, container));
        break;
      case ContainerState::kStarting:
      case ContainerState::kRunning:
      case ContainerState::kExited: break;
    }
  }
  for (JournalEntry entry : node_.journal().unfinished()) {
    const auto container = node_.find(entry.container);
    const bool decided_later = container && container->migration() == entry.id &&
                               container->state() != ContainerState::kLeaving;
    if (decided_later) continue;
    if (!container) {
      run_detached(node_.executor(), "finding out how a migration ended", find_out_end(node_, std::move(entry)));
      continue;
    }
    entry.reason = "lifeboatd ended in phase " + entry.phase + "; the container runs on here";
    entry.phase = to_string(Outcome::kAborted);
    node_.journal().end(entry);
    node_.metrics().interrupted_ended(false);
  }
}

void Agent::end() {
  // What has not fully arrived is removed by its own migration (Arrival); one that is committed but
  // not yet marked as running must live.
  for (const auto& [id, container] : node_.containers()) container->release();
  watch_.end();
  if (served_ != nullptr) served_->stop();
}

awaitable<Status> Agent::listen() {
  const Config& config = node_.config();
  for (const auto& [fabric, address] : node_.self().addresses) {
    const tcp::endpoint endpoint(asio::ip::make_address(address), config.peer_port);
    auto acceptor = co_await listen_tcp(endpoint, "listen for nodes on fabric " + fabric + ",");
    if (!acceptor) {
      co_return fail(acceptor.error().code, acceptor.error().message +
                                                "; is the address configured on this node, and no other "
                                                "lifeboatd running?");
    }
    serve_each(std::move(*acceptor), "a peer", [this](Stream::Socket socket) { return serve_peer(std::move(socket)); });
  }
  co_return Status{};
}

namespace {

// What whoever follows something asks again and again. Such a question may be asked twice, should a connection be lost
// on it.
bool is_followed(const std::string& method) { return method == "migration.get" || method == "node.get"; }

}  // namespace

// Nothing: there is no connection, or it turned out to be lost.
awaitable<std::optional<Result<json::object>>> Agent::ask_over_kept(std::string node, json::object request,
                                                                    Milliseconds limit) {
  auto link = kept_links_.take(node);
  if (!link) co_return std::nullopt;
  auto sent = co_await link->send(Kind::kRequest, std::move(request), limit);
  if (!sent) co_return std::nullopt;
  const auto frame = co_await link->receive(limit);
  if (!frame) co_return std::nullopt;
  auto answer = link->read(*frame, Kind::kResponse);
  if (answer) kept_links_.keep(node_.executor(), node, std::move(*link));
  co_return answer;
}

awaitable<Result<json::object>> Agent::call(std::string node, std::string method,
                                            json::object params,
                                            std::optional<Milliseconds> limit) {
  if (node == node_.name()) {
    co_return co_await handle(std::move(method), std::move(params), Caller::kPeer);
  }
  const Config& config = node_.config();
  const NodeConfig* peer = config.find_node(node);
  if (peer == nullptr) co_return fail(Errc::kNotFound, "no node '" + node + "' is configured");
  // What nobody has heard of for seconds is not waited for again and again.
  if (const predictor::Reason* silent = node_.health().silence(node)) {
    co_return fail(Errc::kUnavailable, "node " + node + " is down since " + timestamp(silent->since) +
                                           ": " + silent->text);
  }
  std::vector<std::string> fabrics{config.default_fabric};
  for (const FabricConfig& fabric : config.fabrics) {
    if (fabric.name != config.default_fabric) fabrics.push_back(fabric.name);
  }
  const Milliseconds connect_limit = limit.value_or(config.timeouts.connect);
  const Milliseconds request_limit = limit.value_or(config.timeouts.request);
  json::object request{{"method", method}, {"params", std::move(params)}};
  const bool followed = is_followed(method);
  if (followed) {
    auto answer = co_await ask_over_kept(node, request, connect_limit);
    if (answer) co_return std::move(*answer);
  }
  Error last(Errc::kUnavailable, "no fabric");
  for (const std::string& fabric : fabrics) {
    auto link = co_await Link::connect(node_.peer_address(node, peer->addresses.at(fabric)),
                                       node_.link_self(), connect_limit);
    if (!link) {
      last = link.error();
      if (last.code == Errc::kRefused) break;
      continue;
    }
    // A request that was sent may have been carried out: it is not sent twice.
    CO_CHECK_OK(co_await link->send(Kind::kRequest, std::move(request), request_limit));
    CO_TRY(const Frame frame, co_await link->receive(request_limit));
    auto answer = link->read(frame, Kind::kResponse);
    if (followed && answer) kept_links_.keep(node_.executor(), node, std::move(*link));
    co_return answer;
  }
  co_return tl::unexpected<Error>(last.context("node " + node + " does not answer"));
}

namespace {

struct Gather {
  Gather(const asio::any_io_executor& executor, std::vector<std::string> asked)
      : done(executor), nodes(std::move(asked)), answers(nodes.size(), fail(Errc::kUnavailable, "not asked")),
        pending(nodes.size()) {
    done.expires_at(asio::steady_timer::time_point::max());
  }
  asio::steady_timer done;
  std::vector<std::string> nodes;
  std::vector<Result<json::object>> answers;
  std::size_t next = 0;
  std::size_t pending;
};

// One node after the other, as long as there are any.
awaitable<void> gather(Agent& agent, std::shared_ptr<Gather> all, std::string method, json::object params,
                       std::optional<Milliseconds> limit) {
  while (all->next < all->nodes.size()) {
    const std::size_t index = all->next++;
    all->answers[index] = co_await agent.call(all->nodes[index], method, params, limit);
    if (--all->pending == 0) all->done.cancel();
  }
}

}  // namespace

// Of thousands asked at once most would not have answered within the limit of each.
awaitable<std::vector<Result<json::object>>> Agent::call_all(std::vector<std::string> nodes,
                                                             std::string method,
                                                             json::object params,
                                                             std::optional<Milliseconds> limit) {
  constexpr std::size_t kAtOnce = 64;
  auto all = std::make_shared<Gather>(node_.executor(), std::move(nodes));
  for (std::size_t i = 0; i < std::min(kAtOnce, all->nodes.size()); ++i) {
    run_detached(node_.executor(), "asking a node", gather(*this, all, method, params, limit));
  }
  while (all->pending > 0) co_await expiry(all->done);
  co_return std::move(all->answers);
}

awaitable<Result<std::string>> Agent::locate(std::string container) {
  std::vector<std::string> names;
  for (const NodeConfig& node : node_.config().nodes) {
    if (node.role == NodeRole::kCompute) names.push_back(node.name);
  }
  const auto answers = co_await call_all(names, "node.info", json::object{});
  std::string found;
  std::string silent;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!answers[i]) {
      silent += " " + names[i];
      continue;
    }
    auto list = get_array(*answers[i], "containers");
    if (!list) continue;
    for (const json::value& item : **list) {
      if (!item.is_object() || string_or(item.get_object(), "id") != container) continue;
      // While it moves both ends know it; it lives where it leaves from until the commit.
      const std::string state = string_or(item.get_object(), "state");
      if (state == to_string(ContainerState::kArriving) ||
          state == to_string(ContainerState::kDraining)) {
        continue;
      }
      // For a moment after the commit the source does not know it yet.
      if (found.empty() || state == to_string(ContainerState::kRunning)) found = names[i];
    }
  }
  if (!found.empty()) co_return found;
  co_return fail(Errc::kNotFound, "no container '" + container + "' on any node" +
                                      (silent.empty() ? "; see: lifeboat ps"
                                                      : " that answers; silent:" + silent));
}

awaitable<Result<json::object>> Agent::handle(std::string method, json::object params,
                                              Caller caller) {
  if (caller == Caller::kPeer) params.erase("all");  // who is asked by a peer asks no others
  if (method == "status") co_return co_await status();
  if (method == "nodes") co_return co_await nodes();
  if (method == "view" && caller == Caller::kOperator) co_return co_await view();
  if (method == "events") co_return co_await events(std::move(params));
  if (method == "containers") co_return co_await containers();
  if (method.rfind("node.", 0) == 0) {
    co_return co_await node_method(std::move(method), std::move(params), caller);
  }
  if (method == "container.create") co_return co_await container_create(std::move(params));
  if (method == "container.remove") co_return co_await container_remove(std::move(params));
  if (method == "container.logs") co_return co_await container_logs(std::move(params), caller);
  if (method == "container.kill") {
    CO_TRY(const std::string id, get_string(params, "id"));
    CO_TRY(std::string owner, co_await locate(id));
    co_return co_await call(std::move(owner), "container.remove", std::move(params));
  }
  if (method == "migrate") co_return co_await migrate_request(std::move(params), caller);
  if (method == "migration.get") co_return co_await migration_get(std::move(params), caller);
  if (method == "migration.cancel") co_return co_await migration_cancel(std::move(params), caller);
  if (method == "migration.list") co_return co_await migration_list(std::move(params));
  if (method == "migration.plan") co_return co_await migration_plan(std::move(params));
  if (method == "migration.outcome") co_return co_await migration_outcome(std::move(params));
  if (method == "migration.resolve") co_return co_await migration_resolve(std::move(params));
  if (caller == Caller::kPeer && method == "migration.decide") {
    co_return co_await migration_decide(std::move(params));
  }
  if (caller == Caller::kPeer && method == "migration.end") {
    CO_TRY(const std::string id, get_string(params, "id"));
    co_return migration_end(id);
  }
  if (caller == Caller::kPeer && method.rfind("registry.", 0) == 0) {
    if (served_ == nullptr) {
      co_return fail(Errc::kUnavailable, "node " + node_.name() + " does not keep the registry");
    }
    co_return co_await serve_registry(*served_, std::move(method), std::move(params));
  }
  if (method.rfind("job.", 0) == 0) {
    co_return co_await job_method(std::move(method), std::move(params), caller);
  }
  co_return fail(Errc::kNotFound, "no method '" + method + "'");
}

awaitable<Result<json::object>> Agent::status() {
  const NodeFacts& facts = node_.facts();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::int64_t now_ms = std::chrono::duration_cast<Milliseconds>(now).count();
  json::object out{{"node", node_.name()},
                   {"cluster", node_.config().cluster},
                   {"role", node_.self().role == NodeRole::kHead ? "head" : "compute"},
                   {"version", LIFEBOAT_VERSION},
                   {"started_at", started_at_},
                   {"clock_ms", now_ms},
                   {"containers", node_.containers().size()},
                   {"migrating", node_.leaving()},
                   {"kernel", facts.kernel},
                   {"criu", facts.criu_version == 0 ? "" : criu_version_text(facts.criu_version)},
                   {"problem", facts.criu_problem},
                   {"tracking_problem", facts.tracking_problem},
                   {"open_files", open_files_max()},
                   {"state", to_string(node_.health().own().condition())}};
  if (const auto& credentials = node_.credentials()) {
    out["certificate_expires"] = timestamp(predictor::Time(std::chrono::seconds(credentials->expires())));
    out["certificate_problem"] = credentials->problem();
  }
  if (!slurm_.problem().empty()) out["slurm_problem"] = slurm_.problem();
  co_return out;
}

awaitable<Result<json::object>> Agent::job_method(std::string method, json::object params,
                                                  Caller caller) {
  // Jobs live on the head node.
  if (caller == Caller::kOperator && node_.self().role != NodeRole::kHead) {
    for (const NodeConfig& node : node_.config().nodes) {
      if (node.role == NodeRole::kHead) {
        co_return co_await call(node.name, std::move(method), std::move(params));
      }
    }
    co_return fail(Errc::kInvalid, "no node has the role 'head': jobs cannot be run");
  }
  if (method == "job.run") co_return co_await jobs_.run(std::move(params));
  if (method == "job.get") co_return jobs_.get(params);
  if (method == "job.list") co_return jobs_.list();
  if (method == "job.logs") co_return jobs_.logs(params);
  if (method == "job.kill") co_return co_await jobs_.kill(std::move(params));
  co_return fail(Errc::kNotFound, "no method '" + method + "'");
}

}  // namespace lifeboat
