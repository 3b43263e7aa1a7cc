#include "config.hpp"

#include <arpa/inet.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <optional>

#include "base/yaml_reader.hpp"
#include "registry/endpoint.hpp"

namespace lifeboat {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kNodesMax = 10'240;
constexpr std::size_t kFabricsMax = 8;
constexpr yaml::Name kClusterName{32};
constexpr yaml::Name kNodeName{32};
constexpr yaml::Name kFabricName{8};

// ---- Kinds of values that only this file knows ------------------------------------------------

std::optional<std::uint32_t> ipv4(const std::string& text) {
  in_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
  return ntohl(address.s_addr);
}

struct AddressRange {
  std::uint32_t first;
  std::uint32_t last;
};

// The addresses of "10.1.0.0/16"; nothing if it is not one, has host bits set, or no room.
std::optional<AddressRange> subnet_range(const std::string& text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos) return std::nullopt;
  const auto network = ipv4(text.substr(0, slash));
  const auto bits = yaml::Integer{8, 30}.parse(text.substr(slash + 1));
  if (!network || !bits) return std::nullopt;
  const std::uint32_t hosts = 0xffffffffu >> *bits;
  if ((*network & hosts) != 0) return std::nullopt;
  return AddressRange{*network, *network | hosts};
}

struct Subnet {
  [[nodiscard]] std::string expected() const {
    return "an IPv4 subnet such as 10.1.0.0/16 (8 to 30 bits, no host bits set)";
  }
  [[nodiscard]] std::optional<std::string> parse(const std::string& text) const {
    return subnet_range(text) ? std::optional(text) : std::nullopt;
  }
};

struct AddressIn {
  std::string subnet;  // if this is no subnet itself, any address will do
  [[nodiscard]] std::string expected() const {
    return "an IPv4 address" + (subnet_range(subnet) ? " of a host in " + subnet : "");
  }
  [[nodiscard]] std::optional<std::string> parse(const std::string& text) const {
    const auto address = ipv4(text);
    const auto range = subnet_range(subnet);
    if (!address || (range && (*address <= range->first || *address >= range->last))) {
      return std::nullopt;
    }
    return text;
  }
};

struct Program {
  [[nodiscard]] std::string expected() const { return "a program's name or absolute path"; }
  [[nodiscard]] std::optional<std::string> parse(const std::string& text) const {
    if (text.empty() || (text.find('/') != std::string::npos && text[0] != '/')) {
      return std::nullopt;
    }
    return text;
  }
};

struct ListenAddress {
  [[nodiscard]] std::string expected() const {
    return "an IPv4 address of this node and a port, such as 127.0.0.1:9464";
  }
  [[nodiscard]] std::optional<ListenConfig> parse(const std::string& text) const {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos) return std::nullopt;
    const auto port = yaml::Integer{1, 65535}.parse(text.substr(colon + 1));
    if (!port || !ipv4(text.substr(0, colon))) return std::nullopt;
    return ListenConfig{text.substr(0, colon), static_cast<std::uint16_t>(*port)};
  }
};

struct Interface {
  [[nodiscard]] std::string expected() const {
    return "an interface name of 1 to 15 characters a-z, A-Z, 0-9, '-', '_' or '.'";
  }
  [[nodiscard]] std::optional<std::string> parse(const std::string& text) const {
    const bool good = std::all_of(text.begin(), text.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '-' || c == '_' || c == '.';
    });
    if (!good || text.empty() || text.size() > 15 || text == "." || text == "..") {
      return std::nullopt;
    }
    return text;
  }
};

// A path that stays below where it starts.
struct Cgroup {
  [[nodiscard]] std::string expected() const {
    return "a path below the cgroup mount, such as lifeboat or system.slice/lifeboat";
  }
  [[nodiscard]] std::optional<std::string> parse(const std::string& text) const {
    const auto path = yaml::Path{"/", 200}.parse(text);
    if (!path || text.empty() || *path != "/" + text) return std::nullopt;
    return text;
  }
};

// ---- Reading, in the order of the file ----------------------------------------------------------

// Whether what refers to these by name can be checked; if not, their own mistakes are enough.
template <class T>
bool all_named(const std::vector<T>& list) {
  return !list.empty() &&
         std::none_of(list.begin(), list.end(), [](const T& item) { return item.name.empty(); });
}

void read_paths(yaml::Reader& m, PathsConfig& out) {
  m.optional("state_dir", out.state_dir, yaml::Path{});
  // Unix socket paths hold 107 bytes; the rest is for the sockets' own names.
  m.optional("run_dir", out.run_dir, yaml::Path{"", 64});
  m.optional("criu", out.criu, Program{});
  m.optional("crun", out.crun, Program{});
  m.optional("libexec", out.libexec, yaml::Path{});
  m.optional("layers_dir", out.layers_dir, yaml::Path{});
  if (out.layers_dir.empty()) out.layers_dir = out.state_dir + "/layers";
  m.optional("cgroup", out.cgroup, Cgroup{});
}

void check_overlap(yaml::Reader& m, const std::vector<FabricConfig>& fabrics) {
  const FabricConfig& last = fabrics.back();
  const auto range = subnet_range(last.subnet);
  for (const FabricConfig& other : fabrics) {
    const auto taken = subnet_range(other.subnet);
    if (&other == &last || !range || !taken) continue;
    if (range->first <= taken->last && taken->first <= range->last) {
      m.mistake("subnet",
                last.subnet + " overlaps " + other.subnet + " of fabric '" + other.name + "'");
    }
  }
}

void read_fabrics(yaml::Reader& m, Config& out) {
  yaml::Seen names;
  yaml::Seen bridges;
  m.each("fabrics", out.fabrics, {1, kFabricsMax}, [&](yaml::Reader& f, FabricConfig& fabric) {
    if (f.required("name", fabric.name, kFabricName)) f.unique("name", fabric.name, names);
    if (f.required("bridge", fabric.bridge, Interface{})) {
      f.unique("bridge", fabric.bridge, bridges);
    }
    if (f.required("subnet", fabric.subnet, Subnet{})) check_overlap(f, out.fabrics);
    f.required("rate", fabric.rate_bits_per_s, yaml::Rate{1'000'000, 1'000'000'000'000});
  });
  if (!out.fabrics.empty()) out.default_fabric = out.fabrics.front().name;
  if (m.optional("default_fabric", out.default_fabric, kFabricName) && all_named(out.fabrics) &&
      out.find_fabric(out.default_fabric) == nullptr) {
    m.mistake("default_fabric", "no fabric is called '" + out.default_fabric + "'");
  }
}

void read_addresses(yaml::Reader& m, const Config& config, NodeConfig& out, yaml::Seen& seen) {
  if (!all_named(config.fabrics)) {
    (void)m.has("addresses");  // nothing to hold its keys against
    return;
  }
  m.map("addresses", [&](yaml::Reader& a) {
    for (const FabricConfig& fabric : config.fabrics) {
      std::string& address = out.addresses[fabric.name];
      if (a.required(fabric.name, address, AddressIn{fabric.subnet})) {
        a.unique(fabric.name, address, seen);
      }
    }
  });
}

void read_nodes(yaml::Reader& m, Config& out) {
  const yaml::Choice<NodeRole> role{{{"head", NodeRole::kHead}, {"compute", NodeRole::kCompute}}};
  const yaml::Size memory{1ull << 20, 1ull << 50};
  yaml::Seen names;
  yaml::Seen addresses;
  m.each("nodes", out.nodes, {1, kNodesMax}, [&](yaml::Reader& n, NodeConfig& node) {
    if (n.required("name", node.name, kNodeName)) n.unique("name", node.name, names);
    n.optional("role", node.role, role);
    read_addresses(n, out, node, addresses);
    if (node.role == NodeRole::kCompute) {
      n.required("memory", node.memory_bytes, memory);
    } else {
      n.optional("memory", node.memory_bytes, memory);  // mpiexec runs there, rarely a container
    }
    n.optional("slots", node.slots, yaml::Integer{0, 1024});
  });
}

void read_timeouts(yaml::Reader& m, Timeouts& out) {
  m.optional("connect", out.connect, yaml::Duration{100ms, 10min});
  m.optional("request", out.request, yaml::Duration{100ms, 10min});
  m.optional("freeze", out.freeze, yaml::Duration{100ms, 10min});
  m.optional("dump", out.dump, yaml::Duration{1s, 24h});
  m.optional("idle", out.idle, yaml::Duration{1s, 1h});
  m.optional("restore", out.restore, yaml::Duration{1s, 24h});
  m.optional("commit", out.commit, yaml::Duration{100ms, 10min});
  m.optional("queue", out.queue, yaml::Duration{1s, 24h});
  m.optional("total", out.total, yaml::Duration{1s, 24h * 7});
}

struct EndpointUrl {
  [[nodiscard]] std::string expected() const { return "a URL such as https://10.1.0.1:2379"; }
  [[nodiscard]] std::optional<std::string> parse(const std::string& text) const {
    return etcd_endpoint_from(text) ? std::optional(text) : std::nullopt;
  }
};

// A head runs no containers: it is the last to be emptied or to be worn out by them.
std::string default_registry_node(const Config& config) {
  for (const NodeConfig& node : config.nodes) {
    if (node.role == NodeRole::kHead) return node.name;
  }
  return config.nodes.empty() ? "" : config.nodes.front().name;
}

void read_etcd(yaml::Reader& r, RegistryConfig& out) {
  constexpr std::size_t kEndpointsMax = 16;
  r.list("endpoints", out.endpoints, {1, kEndpointsMax}, EndpointUrl{});
  r.optional("ca", out.ca, yaml::Path{});
  const bool cert = r.optional("cert", out.cert, yaml::Path{});
  const bool key = r.optional("key", out.key, yaml::Path{});
  if (cert != key) r.mistake(cert ? "cert" : "key", "cert and key belong together");
  r.optional("prefix", out.prefix, yaml::Path{});
  const bool tls = std::any_of(out.endpoints.begin(), out.endpoints.end(),
                               [](const std::string& url) { return url.rfind("https", 0) == 0; });
  if (tls && out.ca.empty()) r.mistake("ca", "https endpoints need the file of the CA that signed theirs");
}

void read_registry(yaml::Reader& r, const Config& config, RegistryConfig& out) {
  const yaml::Choice<RegistryKind> kind{{{"embedded", RegistryKind::kEmbedded}, {"etcd", RegistryKind::kEtcd}}};
  r.optional("kind", out.kind, kind);
  r.optional("timeout", out.timeout, yaml::Duration{100ms, 1min});
  r.optional("lease", out.lease, yaml::Duration{2s, 10min});
  if (out.kind == RegistryKind::kEtcd) {
    out.prefix = "/lifeboat/" + config.cluster;
    read_etcd(r, out);
    out.prefix += "/";
    return;
  }
  out.node = default_registry_node(config);
  if (r.optional("node", out.node, kNodeName) && all_named(config.nodes) &&
      config.find_node(out.node) == nullptr) {
    r.mistake("node", "no node is called '" + out.node + "'");
  }
}

void read_engine(yaml::Reader& m, EngineConfig& out) {
  const yaml::Choice<CompressionMode> compression{{{"auto", CompressionMode::kAuto},
                                                   {"off", CompressionMode::kOff},
                                                   {"lz4", CompressionMode::kLz4},
                                                   {"zstd", CompressionMode::kZstd}}};
  m.optional("connections", out.connections, yaml::Integer{1, 16});
  m.optional("compression", out.compression, compression);
  m.optional("downtime_budget", out.downtime_budget, yaml::Duration{1ms, 10min});
  m.optional("round_interval", out.round_interval, yaml::Duration{20ms, 1min});
  m.optional("rounds_max", out.rounds_max, yaml::Integer{1, 1000});
  m.optional("precopy_limit", out.precopy_limit, yaml::Duration{1s, 24h});
  m.optional("patterns", out.patterns, yaml::Boolean{});
  const yaml::Choice<Tracking> tracking{{{"auto", Tracking::kAuto},
                                         {"userfaultfd", Tracking::kUserfaultfd},
                                         {"soft-dirty", Tracking::kSoftDirty},
                                         {"none", Tracking::kNone}}};
  m.optional("tracking", out.tracking, tracking);
}

void read_network(yaml::Reader& m, NetworkConfig& out) {
  m.optional("tcp_rto_max", out.tcp_rto_max, yaml::Duration{1s, 2min});  // the kernel's range
  m.optional("tcp_retries", out.tcp_retries, yaml::Integer{3, 255});
  m.optional("hold", out.hold, yaml::Boolean{});
}

// Every node keeps a connection to the one with the registry, and may look at all others.
int default_connections(std::size_t nodes) {
  constexpr int kEach = 3;
  return std::max(SecurityConfig{}.connections, kEach * static_cast<int>(nodes));
}

void read_security(yaml::Reader& m, SecurityConfig& out) {
  const yaml::Choice<bool> pages{{{"encrypted", true}, {"plain", false}}};
  m.optional("insecure", out.insecure, yaml::Boolean{});
  m.optional("ca", out.ca, yaml::Path{});
  m.optional("cert", out.cert, yaml::Path{});
  m.optional("key", out.key, yaml::Path{});
  m.optional("pages", out.encrypt_pages, pages);
  m.optional("admin_group", out.admin_group, yaml::Text{1, 32});
  m.optional("read_group", out.read_group, yaml::Text{1, 32});
  m.optional("connections", out.connections, yaml::Integer{8, 65536});
  m.optional("connections_per_peer", out.connections_per_peer, yaml::Integer{4, 4096});
  m.optional("requests_per_s", out.requests_per_s, yaml::Integer{1, 100'000});
}

void read_health(yaml::Reader& m, HealthConfig& out) {
  m.optional("heartbeat_lost", out.heartbeat_lost, yaml::Duration{2s, 10min});
  m.optional("hold", out.hold, yaml::Duration{0ms, 24h});
  m.optional("probation", out.probation, yaml::Duration{0ms, 24h * 30});
}

void read_slurm(yaml::Reader& m, SlurmConfig& out) {
  const yaml::Choice<bool> outside{{{"never", false}, {"idle", true}}};
  m.optional("enabled", out.enabled, yaml::Boolean{});
  m.optional("bin", out.bin, yaml::Path{});
  m.optional("timeout", out.timeout, yaml::Duration{1s, 10min});
  m.optional("refresh", out.refresh, yaml::Duration{1s, 1h});
  m.optional("outside_allocation", out.outside_allocation, outside);
}

void read_page(yaml::Reader& p, const Config& config, PageConfig& out) {
  const bool listens = p.optional("listen", out.listen, ListenAddress{});
  const bool token = p.optional("token_file", out.token_file, yaml::Path{});
  if (!listens || out.listen.address.rfind("127.", 0) == 0) return;
  if (!token) {
    p.mistake("listen", "whoever can connect could look; give a token_file, or listen on 127.0.0.1 only");
  }
  if (config.security.insecure) {
    p.mistake("listen", "with security.insecure there is no TLS for it; listen on 127.0.0.1 only");
  }
}

void read_config(yaml::Reader& m, Config& out) {
  m.required("cluster", out.cluster, kClusterName);
  m.map("paths", [&](yaml::Reader& p) { read_paths(p, out.paths); });
  read_fabrics(m, out);
  read_nodes(m, out);
  if (m.optional("node", out.node, kNodeName) && all_named(out.nodes) &&
      out.find_node(out.node) == nullptr) {
    m.mistake("node", "no node is called '" + out.node + "'");
  }
  m.map("peer", [&](yaml::Reader& p) {
    p.optional("port", out.peer_port, yaml::Integer{1, 65535});
  });
  out.security.connections = default_connections(out.nodes.size());
  m.map("security", [&](yaml::Reader& s) { read_security(s, out.security); });
  m.map("timeouts", [&](yaml::Reader& t) { read_timeouts(t, out.timeouts); });
  m.map("network", [&](yaml::Reader& n) { read_network(n, out.network); });
  m.map("engine", [&](yaml::Reader& e) { read_engine(e, out.engine); });
  m.map("limits", [&](yaml::Reader& l) {
    l.optional("migrations_per_node", out.limits.migrations_per_node, yaml::Integer{1, 64});
    l.optional("migrations_per_fabric", out.limits.migrations_per_fabric, yaml::Integer{1, 64});
    l.optional("arrivals_per_node", out.limits.arrivals_per_node, yaml::Integer{1, 64});
    l.optional("frozen_per_node", out.limits.frozen_per_node, yaml::Integer{1, 64});
  });
  m.map("health", [&](yaml::Reader& h) { read_health(h, out.health); });
  m.map("evacuation", [&](yaml::Reader& e) {
    e.optional("automatic", out.evacuation.automatic, yaml::Boolean{});
    e.optional("bring_back", out.evacuation.bring_back, yaml::Boolean{});
    e.optional("facility_nodes", out.evacuation.facility_nodes, yaml::Integer{1, 1024});
  });
  m.map("registry", [&](yaml::Reader& r) { read_registry(r, out, out.registry); });
  m.map("metrics", [&](yaml::Reader& s) { s.optional("listen", out.metrics, ListenAddress{}); });
  m.map("slurm", [&](yaml::Reader& s) { read_slurm(s, out.slurm); });
  m.map("page", [&](yaml::Reader& p) { read_page(p, out, out.page); });
  m.map("predictor", [&](yaml::Reader& s) { predictor::read_predictor(s, out.predictor); });
  m.map("sources", [&](yaml::Reader& s) { predictor::read_sources(s, out.sources); });
}

std::string short_host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "";
  const std::string full = name;
  return full.substr(0, full.find('.'));
}

}  // namespace

const char* to_string(NodeRole role) {
  switch (role) {
    case NodeRole::kHead:
      return "head";
    case NodeRole::kCompute:
      return "compute";
  }
  return "unknown";
}

const NodeConfig* Config::find_node(std::string_view name) const {
  const auto it = std::find_if(nodes.begin(), nodes.end(),
                               [&](const NodeConfig& node) { return node.name == name; });
  return it == nodes.end() ? nullptr : &*it;
}

const FabricConfig* Config::find_fabric(std::string_view name) const {
  const auto it = std::find_if(fabrics.begin(), fabrics.end(),
                               [&](const FabricConfig& fabric) { return fabric.name == name; });
  return it == fabrics.end() ? nullptr : &*it;
}

Result<Config> load_config(const std::string& path) {
  TRY(const std::string text, yaml::text_of_file(path));
  return parse_config(text, path);
}

Result<Config> parse_config(std::string_view text, const std::string& name) {
  Config config;
  config.node = short_host_name();
  CHECK_OK(yaml::read(text, name, [&](yaml::Reader& m) { read_config(m, config); }));
  for (const auto& item : YAML::Load(std::string(text))) {
    config.sections[item.first.as<std::string>()] = YAML::Dump(item.second);
  }
  return config;
}

ConfigChanges Config::reload(Config newer) {
  ConfigChanges changes;
  for (const auto& [key, text] : sections) newer.sections.emplace(key, "");  // what it leaves out
  for (const auto& [key, text] : newer.sections) {
    std::string& before = sections[key];
    if (before == text) continue;
    if (key == "timeouts") {
      timeouts = newer.timeouts;
    } else if (key == "network") {
      network = newer.network;
    } else if (key == "engine") {
      engine = newer.engine;
    } else if (key == "evacuation") {
      evacuation = newer.evacuation;
    } else {
      changes.need_restart.push_back(key);
      continue;
    }
    before = text;
    changes.taken.push_back(key);
  }
  return changes;
}

}  // namespace lifeboat
