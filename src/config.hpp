// config.hpp - what an operator sets: configs/lifeboat.yaml documents every key, its default, unit,
// range and reason. One file describes the whole cluster and is the same on every node, but for
// what `node` names.
//
// Loading checks everything that one file can tell (types, ranges, names, addresses and how they
// fit together) and reports all mistakes at once; whether this machine is what the file says
// (bridges, programs, directories) is for the daemon's preflight.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "criu_glue/tracking.hpp"
#include "migration/compression_mode.hpp"
#include "predictor/config.hpp"
#include "predictor/sources/sources.hpp"

namespace lifeboat {

struct PathsConfig {
  std::string state_dir = "/var/lib/lifeboat";  // journal, registry, images: survives a reboot
  std::string run_dir = "/run/lifeboat";        // sockets and what a reboot may take
  std::string criu = "criu";                    // program name or absolute path
  std::string crun = "crun";                    // OCI runtime: program name or absolute path
  std::string libexec;                          // lifeboat-pager and the like; empty:
                                                // ../libexec/lifeboat of lifeboatd, or beside it
  std::string layers_dir;               // writable layers of containers; empty: state_dir/layers
  std::string cgroup = "lifeboat";              // parent cgroup, below the cgroup2 mount
};

// One network that containers talk over and that daemons can move memory over.
struct FabricConfig {
  std::string name;
  std::string bridge;  // interface on every node
  std::string subnet;  // IPv4, "10.1.0.0/16"
  std::uint64_t rate_bits_per_s = 0;
};

enum class NodeRole { kHead, kCompute };
const char* to_string(NodeRole role);

struct NodeConfig {
  std::string name;
  NodeRole role = NodeRole::kCompute;
  std::map<std::string, std::string> addresses;  // fabric name -> IPv4, one for every fabric
  std::uint64_t memory_bytes = 0;                // room for containers
  int slots = 16;                                // containers it may hold
};

struct Timeouts {
  std::chrono::milliseconds connect{5'000};         // TCP and hello of a peer
  std::chrono::milliseconds request{10'000};        // a peer's answer to one request
  std::chrono::milliseconds freeze{10'000};         // until every task is stopped
  std::chrono::milliseconds dump{600'000};          // CRIU, until the images are complete
  std::chrono::milliseconds idle{30'000};           // no byte from the peer in a transfer
  std::chrono::milliseconds restore{600'000};       // CRIU, until the tree is held stopped
  std::chrono::milliseconds commit{10'000};         // from commit until the target says running
  std::chrono::milliseconds queue{600'000};         // the target has no place for it
  std::chrono::milliseconds total{7'200'000};       // a whole migration, once its turn has come
};

enum class RegistryKind { kEmbedded, kEtcd };

// Where it is written who owns which container; src/registry/README.md.
struct RegistryConfig {
  RegistryKind kind = RegistryKind::kEmbedded;
  std::string node;                     // embedded: whose daemon keeps it; default: the first head, or node
  std::vector<std::string> endpoints;   // etcd: "https://10.1.0.1:2379", ...
  std::string ca;                       // etcd: PEM files
  std::string cert;
  std::string key;
  std::string prefix;                   // etcd: of all keys; default: /lifeboat/CLUSTER/
  std::chrono::milliseconds timeout{5'000};  // of one request
  std::chrono::milliseconds lease{5'000};    // a node that has not renewed it for so long counts as gone
};

// TCP in the containers' network namespaces: how their peers live through a freeze.
struct NetworkConfig {
  std::chrono::milliseconds tcp_rto_max{1'000};  // longest pause between two retransmissions
  int tcp_retries = 255;                         // retransmissions before a connection is given up
  bool hold = true;                              // keep frames for a frozen container
};

// How memory moves; configs/lifeboat.yaml has the reasons.
struct EngineConfig {
  int connections = 2;                             // page connections of one migration
  CompressionMode compression = CompressionMode::kAuto;
  std::chrono::milliseconds downtime_budget{50};   // sending while frozen
  std::chrono::milliseconds round_interval{300};   // least time between two rounds of pre-copy
  int rounds_max = 30;
  bool patterns = true;  // false: only the budget and the limits end the rounds
  Tracking tracking = Tracking::kAuto;             // of the pages written meanwhile
  std::chrono::milliseconds precopy_limit{600'000};  // then the container is frozen as it is
};

// Per node; what is more waits for its turn.
struct Limits {
  int migrations_per_node = 4;    // leaving it at the same time
  int migrations_per_fabric = 4;  // of these, over one fabric
  int arrivals_per_node = 4;      // coming to it at the same time
  int frozen_per_node = 1;        // of those that leave
};

// When a node counts as what; configs/lifeboat.yaml has the reasons.
struct HealthConfig {
  std::chrono::milliseconds heartbeat_lost{5'000};  // silent for so long: down
  std::chrono::milliseconds hold{600'000};          // what the predictor says stays at least
  std::chrono::milliseconds probation{3'600'000};   // of a node that came back
};

struct EvacuationConfig {
  bool automatic = true;   // a node that is degraded empties itself
  bool bring_back = false; // and takes its containers back when it is well again
  int facility_nodes = 0;  // more at once are no failure of nodes; 0: the larger of 3 and 10 %
};

// Who may talk to this node; configs/lifeboat.yaml has the reasons.
struct SecurityConfig {
  bool insecure = false;  // no encryption and no certificates between nodes
  std::string ca = "/etc/lifeboat/ca.crt";      // PEM files
  std::string cert = "/etc/lifeboat/node.crt";
  std::string key = "/etc/lifeboat/node.key";
  bool encrypt_pages = true;
  std::string admin_group;  // groups of this machine; empty: root alone
  std::string read_group;
  int connections = 256;           // of peers, at the same time
  int connections_per_peer = 64;
  int requests_per_s = 200;        // of one peer
};

// What a newer configuration changes, by top-level key.
struct ConfigChanges {
  std::vector<std::string> taken;
  std::vector<std::string> need_restart;  // of the daemon; containers do not notice
};

// Where something is served over TCP besides the operator's socket.
struct ListenConfig {
  std::string address;     // IPv4
  std::uint16_t port = 0;  // 0: nowhere
  bool operator==(const ListenConfig&) const = default;
};

// The page to watch; page_server.hpp.
struct PageConfig {
  ListenConfig listen;
  std::string token_file;  // empty: none is asked for (loopback addresses only)
};

// The batch system that gives jobs their nodes; src/slurm.
struct SlurmConfig {
  bool enabled = false;
  std::string bin;  // directory of its commands; empty: found on PATH
  std::chrono::milliseconds timeout{10'000};  // of one command
  std::chrono::milliseconds refresh{60'000};  // how old may be what is known of it
  bool outside_allocation = false;            // idle nodes are targets, too
};

struct Config {
  std::string cluster;  // peers of another cluster are refused
  std::string node;     // this node; default: the host name up to its first dot
  PathsConfig paths;
  std::vector<FabricConfig> fabrics;  // at least one
  std::string default_fabric;         // names one of `fabrics`
  std::vector<NodeConfig> nodes;      // at least one
  std::uint16_t peer_port = 7420;     // TCP, on every fabric
  SecurityConfig security;
  Timeouts timeouts;
  NetworkConfig network;
  EngineConfig engine;
  Limits limits;
  HealthConfig health;
  EvacuationConfig evacuation;
  RegistryConfig registry;
  ListenConfig metrics;
  SlurmConfig slurm;
  PageConfig page;
  predictor::PredictorConfig predictor;
  predictor::SourcesConfig sources;  // its node is the caller's to set

  std::map<std::string, std::string> sections;  // the file's top-level keys, and their values as text

  // Takes over from a newer one what may change while a daemon runs, at once or from the next migration on.
  ConfigChanges reload(Config newer);

  // nullptr if there is none of that name. `node` need not be in `nodes` when it is the default
  // or came from the command line: the caller must look.
  [[nodiscard]] const NodeConfig* find_node(std::string_view name) const;
  [[nodiscard]] const FabricConfig* find_fabric(std::string_view name) const;
};

// kInvalid: every mistake, one a line, `file:line:col: path: message`. kSystem: cannot be read.
Result<Config> load_config(const std::string& path);
// The same for a text; `name` stands for the file in messages.
Result<Config> parse_config(std::string_view text, const std::string& name);

}  // namespace lifeboat
