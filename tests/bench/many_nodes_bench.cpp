// Many compute nodes in one process, for a real head to look after: what a large cluster costs the
// head. Not a test; scripts/bench scale runs it.
//
// Each node listens at its own address with its own certificate and answers what a head asks:
// node.state every second, node.info, events and migration.list when somebody looks. Towards the
// head it does what a node's daemon does: keeps its lease in the embedded registry, compares its
// containers with it whenever the registry is back, and looks at their records every half minute.
// It has containers by name only.
//
// SIGUSR1 makes the first node say nothing any more, as one without power; the next SIGUSR1 ends
// that.
//
//   build/dev/bin/nodes_bench --config FILE --pki DIR --metrics FILE [--first I] [--count N]
//   [--containers N]
#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "base/tcp_listen.hpp"
#include "config.hpp"
#include "credentials.hpp"
#include "health.hpp"
#include "metrics.hpp"
#include "migration/link.hpp"
#include "node_metrics.hpp"
#include "pki.hpp"
#include "registry/measured.hpp"
#include "registry/owners.hpp"
#include "registry/presence.hpp"
#include "registry/remote.hpp"
#include "report.hpp"

namespace {

std::vector<in_addr> own_addresses;  // of the nodes here

}  // namespace

// In place of the C library's: a node's connections come from an address of a node, as the head
// lets in only so many strangers from one address. Which node's does not matter.
extern "C" int connect(int fd, const sockaddr* to, socklen_t size) {
  static std::size_t next = 0;
  if (to->sa_family == AF_INET && !own_addresses.empty()) {
    sockaddr_in from{};
    from.sin_family = AF_INET;
    from.sin_addr = own_addresses[next++ % own_addresses.size()];
    (void)::bind(fd, reinterpret_cast<const sockaddr*>(&from), sizeof from);
  }
  return static_cast<int>(::syscall(SYS_connect, fd, to, size));
}

namespace {

using namespace lifeboat;
using asio::ip::tcp;
using protocol::Kind;

constexpr int kDays = 7;  // of certificates

struct Options {
  std::string config;
  std::string pki;
  std::string metrics;
  std::size_t first = 0;  // among the compute nodes
  std::size_t count = 1;
  std::size_t leases = 1;  // so many of them keep one
  unsigned containers = 4;
};

// What all nodes here have in common.
struct Bench {
  Config config;
  Options options;
  NodeMetrics metrics;
  std::map<std::string, std::uint64_t> answers;  // by method
  std::uint64_t links = 0;                       // on which a head has asked for a state
  std::uint64_t compared = 0;    // comparisons of a node's containers with the registry
  std::set<std::string> leased;  // nodes that have had a lease
};

class Machine {
 public:
  Machine(asio::any_io_executor executor, Bench& bench, const NodeConfig& node,
          std::shared_ptr<Credentials> credentials)
      : executor_(std::move(executor)),
        bench_(bench),
        config_(node),
        self_{bench.config.cluster, node.name, std::move(credentials)},
        registry_(std::make_unique<RemoteRegistry>(executor_, settings()), bench.metrics),
        owners_(registry_, bench.config.registry.timeout),
        presence_(owners_, node.name, bench.config.registry.lease, [this] { return compare(); }) {}

  awaitable<Status> listen() {
    const tcp::endpoint endpoint(asio::ip::make_address(config_.addresses.begin()->second),
                                 bench_.config.peer_port);
    auto acceptor = co_await listen_tcp(endpoint, "listen at");
    if (!acceptor) co_return tl::unexpected<Error>(acceptor.error());
    asio::co_spawn(executor_, accept(std::move(*acceptor)), asio::detached);
    co_return Status{};
  }
  // Daemons have not been started at the same moment.
  awaitable<void> keep_lease(Milliseconds after) {
    co_await sleep_for(after);
    asio::co_spawn(executor_, look_after_containers(), asio::detached);
    co_await presence_.keep();
  }
  void toggle_silence() { silent_ = !silent_; }

 private:
  [[nodiscard]] RemoteRegistry::Settings settings() const {
    const Config& config = bench_.config;
    RemoteRegistry::Settings settings;
    settings.node = config.registry.node;
    settings.addresses = config.find_node(settings.node)->addresses;
    settings.port = config.peer_port;
    settings.self = self_;
    settings.timeout = config.registry.timeout;
    return settings;
  }

  awaitable<void> accept(tcp::acceptor acceptor) {
    for (;;) {
      auto [error, socket] = co_await acceptor.async_accept(use_tuple);
      if (!error) asio::co_spawn(executor_, serve(std::move(socket)), asio::detached);
      if (error) co_await sleep_for(Milliseconds(100));
    }
  }

  awaitable<void> serve(tcp::socket socket) {
    const Timeouts& timeouts = bench_.config.timeouts;
    Link link(std::move(socket));
    const auto peer = co_await link.accept_hello(self_, timeouts.connect);
    if (!peer) co_return;
    bool asked = false;
    for (;;) {
      auto body = co_await link.expect(Kind::kRequest, timeouts.idle);
      while (silent_) co_await sleep_for(Milliseconds(100));
      if (!body) co_return;
      const std::string method = string_or(*body, "method");
      if (method.rfind("node.", 0) == 0 && method != "node.info" && !std::exchange(asked, true))
        ++bench_.links;
      json::object reply = answer(method);
      const auto sent = co_await link.send(Kind::kResponse, std::move(reply), timeouts.request);
      if (!sent) co_return;
    }
  }

  json::object answer(const std::string& method) {
    ++bench_.answers[method];
    if (method == "node.info") return info();
    if (method == "events") return {{"events", json::array()}, {"silent", json::array()}};
    if (method == "migration.list")
      return {{"migrations", json::array()}, {"silent", json::array()}};
    return to_json(predictor::NodeState(predictor::StateTimes{}));
  }

  // As Agent::node_info() says it.
  [[nodiscard]] json::object info() const {
    constexpr std::uint64_t kEach = 4ULL << 30;
    json::array containers;
    for (unsigned i = 0; i < bench_.options.containers; ++i) {
      json::object addresses;
      for (const auto& [fabric, address] : config_.addresses) addresses[fabric] = address;
      containers.push_back(json::object{{"id", container(i)},
                                        {"job", "job-" + config_.name},
                                        {"node", config_.name},
                                        {"state", "running"},
                                        {"pid", 123456 + i},
                                        {"memory_bytes", kEach},
                                        {"resident_bytes", kEach / 2},
                                        {"addresses", std::move(addresses)},
                                        {"migration", ""},
                                        {"came_from", ""},
                                        {"came_at", 0}});
    }
    const std::uint64_t used = kEach * containers.size();
    json::object out{
        {"node", config_.name},
        {"cluster", self_.cluster},
        {"role", "compute"},
        {"version", LIFEBOAT_VERSION},
        {"started_at", timestamp_now()},
        {"clock_ms", 1'760'000'000'000},
        {"containers", std::move(containers)},
        {"migrating", 0},
        {"kernel", "6.18.5"},
        {"criu", "4.2.1"},
        {"problem", ""},
        {"certificate_expires", timestamp_now()},
        {"certificate_problem", ""},
        {"slots", config_.slots},
        {"slots_free", config_.slots - static_cast<int>(bench_.options.containers)},
        {"memory_bytes", config_.memory_bytes},
        {"memory_free_bytes", config_.memory_bytes - std::min(used, config_.memory_bytes)},
        {"migrations", json::array()},
        {"lost", json::array()}};
    const json::object state = to_json(predictor::NodeState(predictor::StateTimes{}));
    for (const auto& item : state) out[item.key()] = item.value();
    out["evacuation"] = {{"phase", "idle"},       {"text", ""}, {"began_at", ""},
                         {"starts_at", ""},       {"moved", 0}, {"left", bench_.options.containers},
                         {"stuck", json::array()}};
    return out;
  }

  [[nodiscard]] std::string container(unsigned number) const {
    return config_.name + "-c" + std::to_string(number);
  }

  // As Node::compare_with_registry(): its records are read; of what is here and has none, one is made.
  awaitable<bool> compare() {
    bench_.leased.insert(config_.name);
    auto records = co_await owners_.of_node(config_.name);
    if (!records) co_return false;
    std::set<std::string> known;
    for (const OwnerRecord& record : *records) known.insert(record.ownership.container);
    for (unsigned i = 0; i < bench_.options.containers; ++i) {
      if (known.contains(container(i))) continue;
      auto other = co_await owners_.find(container(i));
      if (!other) co_return false;
      if (!*other) (void)co_await owners_.claim(container(i), "job-" + config_.name, config_.name);
    }
    ++bench_.compared;
    co_return true;
  }

  // As Node::look_after_containers().
  awaitable<void> look_after_containers() {
    for (;;) {
      co_await sleep_for(std::chrono::seconds(30));
      for (unsigned i = 0; i < bench_.options.containers; ++i)
        (void)co_await owners_.find(container(i));
    }
  }

  asio::any_io_executor executor_;
  Bench& bench_;
  const NodeConfig& config_;
  LinkSelf self_;
  MeasuredRegistry registry_;
  Owners owners_;
  Presence presence_;
  bool silent_ = false;
};

std::string metrics_text(const Bench& bench) {
  metrics::Page page;
  bench.metrics.add_to(page);
  page.counter("bench_links_total", "Links on which a head asks for the state.",
               static_cast<double>(bench.links));
  page.gauge("bench_leased", "Nodes that have had a lease.",
             static_cast<double>(bench.leased.size()));
  page.counter("bench_compared_total", "Comparisons with the registry.",
               static_cast<double>(bench.compared));
  page.family("bench_answers_total", metrics::Type::kCounter, "Requests answered.");
  for (const auto& [method, count] : bench.answers)
    page.sample({{"method", method}}, static_cast<double>(count));
  return page.text();
}

awaitable<void> tell(const Bench& bench) {
  for (;;) {
    (void)replace_file(bench.options.metrics, metrics_text(bench));
    co_await sleep_for(Milliseconds(500));
  }
}

awaitable<void> take_signals(Machine& first) {
  asio::signal_set signals(co_await asio::this_coro::executor, SIGUSR1);
  for (;;) {
    (void)co_await signals.async_wait(use_tuple);
    first.toggle_silence();
  }
}

Result<std::shared_ptr<Credentials>> credentials_of(const Bench& bench, const NodeConfig& node) {
  const Pki pki(bench.options.pki);
  CHECK_OK(pki.add_node(node.name, node.role, kDays));
  SecurityConfig files;
  files.ca = pki.path("ca", ".crt");
  files.cert = pki.path(node.name, ".crt");
  files.key = pki.path(node.name, ".key");
  return Credentials::load(files, {bench.config.cluster, node.name, node.role});
}

// The nodes that are to be here.
std::vector<const NodeConfig*> nodes_of(const Bench& bench) {
  std::vector<const NodeConfig*> nodes;
  for (const NodeConfig& node : bench.config.nodes) {
    if (node.role == NodeRole::kCompute) nodes.push_back(&node);
  }
  const auto first = std::min(bench.options.first, nodes.size());
  const auto end = std::min(first + bench.options.count, nodes.size());
  return {nodes.begin() + static_cast<std::ptrdiff_t>(first),
          nodes.begin() + static_cast<std::ptrdiff_t>(end)};
}

awaitable<void> run(Bench& bench, std::vector<std::unique_ptr<Machine>>& machines) {
  auto executor = co_await asio::this_coro::executor;
  for (const NodeConfig* node : nodes_of(bench)) {
    auto credentials = credentials_of(bench, *node);
    Status listening;
    if (credentials) {
      machines.push_back(
          std::make_unique<Machine>(executor, bench, *node, std::move(*credentials)));
      listening = co_await machines.back()->listen();
    }
    if (!credentials || !listening) {
      std::cerr << (credentials ? listening.error() : credentials.error()).message << "\n";
      std::_Exit(1);
    }
    in_addr address{};
    ::inet_pton(AF_INET, node->addresses.begin()->second.c_str(), &address);
    own_addresses.push_back(address);
  }
  std::mt19937 random(1);
  std::uniform_int_distribution<long> phase(0, bench.config.registry.lease.count() / 4);
  for (std::size_t i = 0; i < std::min(bench.options.leases, machines.size()); ++i) {
    asio::co_spawn(executor, machines[i]->keep_lease(Milliseconds(phase(random))), asio::detached);
  }
  asio::co_spawn(executor, take_signals(*machines.front()), asio::detached);
  asio::co_spawn(executor, tell(bench), asio::detached);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Plays compute nodes for a head"};
  Bench bench;
  Options& options = bench.options;
  app.add_option("--config", options.config, "the head's configuration")->required();
  app.add_option("--pki", options.pki,
                 "directory of the CA; the nodes' certificates are made there")
      ->required();
  app.add_option("--metrics", options.metrics, "file for what is counted, as Prometheus reads it")
      ->required();
  app.add_option("--first", options.first, "the first compute node that is here")
      ->capture_default_str();
  app.add_option("--count", options.count, "how many are")->capture_default_str();
  app.add_option("--leases", options.leases, "how many of them ask the registry")
      ->capture_default_str();
  app.add_option("--containers", options.containers, "on each")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  auto config = load_config(options.config);
  if (!config) {
    std::cerr << config.error().message << "\n";
    return 2;
  }
  bench.config = std::move(*config);
  std::signal(SIGPIPE, SIG_IGN);
  asio::io_context context(1);
  std::vector<std::unique_ptr<Machine>> machines;
  asio::co_spawn(context, run(bench, machines), asio::detached);
  context.run();
}
