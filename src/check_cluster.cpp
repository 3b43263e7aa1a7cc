#include <cmath>
#include <ctime>
#include <filesystem>

#include "api_client.hpp"
#include "check.hpp"
#include "credentials.hpp"
#include "migration/link.hpp"
#include "registry/open.hpp"
#include "registry/owners.hpp"
#include "slurm/commands.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

constexpr Milliseconds kAnswer{5'000};
constexpr double kSkewMax = 1000;  // ms

double wall_ms() {
  return std::chrono::duration<double, std::milli>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string tenths(double value) {
  const auto rounded = std::llround(value * 10);
  return std::to_string(rounded / 10) + "." + std::to_string(rounded % 10);
}

// This node's certificate; null where nothing is encrypted, and when there is none that can be used.
std::shared_ptr<Credentials> look_at_certificate(const Config& config, const NodeConfig& self, Findings& out) {
  if (config.security.insecure) {
    out.warning("certificate", "security.insecure: nothing is encrypted, and nobody is sure who is who",
                "whoever reaches port " + std::to_string(config.peer_port) + " can start programs here as root",
                "lifeboat pki init, lifeboat pki node; then remove security.insecure");
    return nullptr;
  }
  const CertificateName name{config.cluster, self.name, self.role};
  auto loaded = Credentials::load(config.security, name);
  if (!loaded) {
    out.error("certificate", loaded.error().message, "no other node talks to one without",
              "lifeboat pki node " + self.name + (self.role == NodeRole::kHead ? " --role head" : "") +
                  ", and put its files where security: says");
    return nullptr;
  }
  const double days = std::difftime((*loaded)->expires(), std::time(nullptr)) / 86'400;
  constexpr double kSoon = 30;
  const std::string text = "good for " + std::to_string(static_cast<long>(days)) + " days";
  if (days < 0) {
    out.error("certificate", "it has expired", "no other node talks to this one", "lifeboat pki renew " + self.name);
  } else if (days < kSoon) {
    out.warning("certificate", text, "after that no other node talks to this one", "lifeboat pki renew " + self.name);
  } else {
    out.ok("certificate", text);
  }
  return *loaded;
}

bool look_at_daemon(const Config& config, Findings& out) {
  ApiClient api(config.paths.run_dir + "/api.sock");
  auto status = api.get("/v1/status");
  if (!status) {
    out.warning("lifeboatd", status.error().message, "it moves the containers of this node",
                "systemctl enable --now lifeboatd; journalctl -u lifeboatd says why it does not start");
    return false;
  }
  const std::string version = string_or(*status, "version");
  if (version != LIFEBOAT_VERSION) {
    out.warning("lifeboatd", "version " + version + " runs, " LIFEBOAT_VERSION " is installed",
                "it goes on as it was until it is started again", "systemctl restart lifeboatd (containers run on)");
  } else {
    out.ok("lifeboatd", "version " + version + ", node is " + string_or(*status, "state"));
  }
  if (const std::string problem = string_or(*status, "tracking_problem"); !problem.empty()) {
    out.error("lifeboatd, dirty tracking", problem, "each container is frozen until all its memory has been sent",
              "lifeboat-starter must be free to use ptrace, lifeboatd to use userfaultfd, as the package's units let them");
  }
  if (const double files = number_or(*status, "open_files"); files > 0) {
    look_at_open_files(static_cast<std::uint64_t>(files), out);
  }
  return true;
}

awaitable<void> look_at_registry(const Config& config, const LinkSelf& self, bool daemon_runs, Findings& out) {
  if (keeps_registry(config, self.node)) {
    if (daemon_runs) out.ok("registry", "embedded, kept by this node's daemon");
    co_return;
  }
  auto executor = co_await asio::this_coro::executor;
  const std::string kind = config.registry.kind == RegistryKind::kEtcd ? "etcd" : "embedded";
  const std::string why = "while it does not answer no migration begins and no job starts";
  const std::string fix = config.registry.kind == RegistryKind::kEtcd
                              ? "look at the servers in registry.endpoints: etcdctl endpoint health"
                              : "start lifeboatd on the node that keeps it (registry.node, or the first head)";
  auto registry = open_registry(executor, config, self);
  if (!registry) {
    out.error("registry", kind + ": " + registry.error().message, why, fix);
    co_return;
  }
  const auto start = SteadyClock::now();
  auto entry = co_await (*registry)->get(presence_key(self.node));
  if (!entry) {
    out.error("registry", kind + ": " + entry.error().message, why, fix);
  } else {
    out.ok("registry", kind + ", answers within " + tenths(elapsed_ms(start)) + " ms");
  }
}

// A head is seldom one of Slurm's nodes; it asks for those of the cluster.
awaitable<void> look_at_slurm_of_head(const Config& config, Findings& out) {
  auto listed = co_await slurm::list_nodes(config.slurm, config.cluster);
  if (!listed) {
    out.error("slurm", listed.error().message, "nothing is known of its nodes and jobs",
              "sinfo must work on this node: slurm.bin, slurm.conf, munge, slurmctld");
  } else {
    out.ok("slurm", "it lists its nodes");
  }
}

awaitable<void> look_at_slurm(const Config& config, const std::string& self, Findings& out) {
  if (!config.slurm.enabled) co_return;
  const NodeConfig* node = config.find_node(self);
  if (node != nullptr && node->role == NodeRole::kHead) {
    co_await look_at_slurm_of_head(config, out);
    co_return;
  }
  auto shown = co_await slurm::show_node(config.slurm, self);
  if (!shown) {
    out.error("slurm", shown.error().message, "it is not told of this node's state, and its jobs cannot start here",
              "scontrol show node " + self + " must work on this node: slurm.bin, slurm.conf, munge, slurmctld");
  } else {
    out.ok("slurm", "it knows this node" + (shown->reason.empty() ? "" : ": " + shown->reason));
  }
}

awaitable<Result<json::object>> ask(Link& link, std::string method, json::object params) {
  json::object request{{"method", std::move(method)}, {"params", std::move(params)}};
  CO_CHECK_OK(co_await link.send(Kind::kRequest, std::move(request), kAnswer));
  co_return co_await link.expect(Kind::kResponse, kAnswer);
}

void look_at_peer(const std::string& subject, const json::object& info, double ms, double skew, Findings& out) {
  const std::string version = string_or(info, "version");
  const std::string text = "version " + version + ", " + tenths(ms) + " ms";
  if (std::abs(skew) > kSkewMax + ms / 2) {  // it was read at some moment of those that the answer took
    out.warning(subject, "its clock is " + tenths(std::abs(skew) / 1000) + " s " + (skew > 0 ? "ahead" : "behind"),
                "certificates are good between two times; histories of both cannot be compared",
                "install chrony or systemd-timesyncd on both");
  } else if (version != LIFEBOAT_VERSION) {
    out.warning(subject, text + ", this is " LIFEBOAT_VERSION,
                "they work together for the time of an upgrade", "install the same version on all nodes");
  } else if (const std::string problem = string_or(info, "problem"); !problem.empty()) {
    out.warning(subject, text + "; no container can be moved from or to it", problem, "lifeboat check, on that node");
  } else {
    out.ok(subject, text);
  }
}

// What goes over the link in half a second, bits/s. Some requests ahead: the next answer is on its way while one
// is read.
awaitable<Result<double>> rate_of(Link& link) {
  constexpr int kAnswersMax = 100;  // a peer answers only so many requests a second
  constexpr int kAhead = 4;
  constexpr double kLongest = 500;  // ms
  const json::object request{{"method", "node.fill"}, {"params", json::object{{"bytes", kFillBytesMax}}}};
  const auto start = SteadyClock::now();
  int asked = 0;
  double bytes = 0;
  double ms = 0;
  for (int answered = 0; answered < asked || asked == 0; ++answered) {
    for (; asked < kAnswersMax && asked < answered + kAhead && ms < kLongest; ++asked) {
      CO_CHECK_OK(co_await link.send(Kind::kRequest, request, kAnswer));
    }
    CO_TRY(const json::object answer, co_await link.expect(Kind::kResponse, kAnswer));
    bytes += static_cast<double>(string_or(answer, "fill").size());
    ms = elapsed_ms(start);
  }
  co_return bytes * 8000 / ms;
}

void look_at_rate(const FabricConfig& fabric, const std::string& node, double rate, Findings& out) {
  // Over one connection, in JSON: more than this is not measured, however fast the fabric.
  constexpr double kMeasurable = 2e9;
  const auto configured = static_cast<double>(fabric.rate_bits_per_s);
  const std::string text = tenths(rate / 1e6) + " Mbit/s to " + node + ", " + tenths(configured / 1e6) + " in the configuration";
  if (rate < std::min(configured, kMeasurable) / 2) {
    out.warning("rate of " + fabric.name, text, "plans and predictions count on it",
                "look at the card, the cable and the switch; at other traffic; then measure again");
  } else {
    out.ok("rate of " + fabric.name, text + (rate < configured * 0.8 ? " (this measures no more than some Gbit/s)" : ""));
  }
}

// One node over one fabric. Whether it was there to be measured.
awaitable<bool> look_at_node(const Config& config, const LinkSelf& self, const FabricConfig& fabric,
                             const NodeConfig& node, bool measure, Findings& out) {
  const std::string subject = "node " + node.name + " over " + fabric.name;
  const std::string& address = node.addresses.at(fabric.name);
  PeerAddress to{node.name, address, config.peer_port};
  auto link = co_await Link::connect(std::move(to), self, config.timeouts.connect);
  if (!link) {
    const bool silent = link.error().code == Errc::kUnavailable;
    out.error(subject, link.error().message, "nothing can be moved to it over this fabric",
              silent ? "start lifeboatd there; let TCP port " + std::to_string(config.peer_port) + " of " + address +
                           " through"
                     : "the same cluster: and CA on both, and certificates of the nodes' own names");
    co_return false;
  }
  const auto start = SteadyClock::now();
  json::object none;
  auto info = co_await ask(*link, "node.info", std::move(none));
  if (!info) {
    out.error(subject, info.error().message, "nothing can be moved to it over this fabric", "lifeboat check, on that node");
    co_return false;
  }
  const double ms = elapsed_ms(start);
  const double skew = number_or(*info, "clock_ms", wall_ms()) - (wall_ms() - ms / 2);
  look_at_peer(subject, *info, ms, skew, out);
  if (!measure) co_return false;
  auto rate = co_await rate_of(*link);
  if (rate) {
    look_at_rate(fabric, node.name, *rate, out);
  } else {
    out.warning("rate of " + fabric.name, rate.error().message, "it could not be measured", "measure again");
  }
  co_return true;
}

}  // namespace

awaitable<Findings> check_cluster(const Config& config, std::string self, bool measure) {
  Findings out;
  const NodeConfig& here = *config.find_node(self);
  const bool runs = look_at_daemon(config, out);
  const LinkSelf link_self{config.cluster, self, look_at_certificate(config, here, out)};
  if (!config.security.insecure && link_self.credentials == nullptr) co_return out;
  co_await look_at_registry(config, link_self, runs, out);
  co_await look_at_slurm(config, self, out);
  for (const FabricConfig& fabric : config.fabrics) {
    bool measured = !measure;
    for (const NodeConfig& node : config.nodes) {
      if (node.name == self) continue;
      const bool done = co_await look_at_node(config, link_self, fabric, node, !measured, out);
      measured = measured || done;
    }
  }
  co_return out;
}

}  // namespace lifeboat
