// configs/lifeboat.yaml as shipped, and every way to get it wrong.
#include "config.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <string>

namespace lifeboat {
namespace {

using namespace std::chrono_literals;

const std::string kFabrics =
    "fabrics:\n"
    "  - {name: 1g, bridge: br-1g, subnet: 10.1.0.0/16, rate: 1Gbit}\n"
    "  - {name: 10g, bridge: br-10g, subnet: 10.2.0.0/16, rate: 10Gbit}\n";
const std::string kNodes =
    "nodes:\n"
    "  - {name: n1, memory: 8GiB, addresses: {1g: 10.1.0.11, 10g: 10.2.0.11}}\n";
const std::string kMinimal = "cluster: c\n" + kFabrics + kNodes;  // 6 lines

std::string told(const std::string& text) {
  const auto config = parse_config(text, "lab.yaml");
  if (config) return "";
  EXPECT_EQ(config.error().code, Errc::kInvalid);
  return config.error().message;
}

TEST(Config, ShippedFileLoads) {
  const auto config = load_config(LIFEBOAT_SOURCE_DIR "/configs/lifeboat.yaml");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_TRUE(config->sections.contains("fabrics")) << "what reload() compares";
  EXPECT_EQ(config->cluster, "example");
  EXPECT_EQ(config->default_fabric, "10g");
  ASSERT_EQ(config->fabrics.size(), 2u);
  EXPECT_EQ(config->fabrics[1].bridge, "br-10g");
  EXPECT_EQ(config->fabrics[1].subnet, "10.2.0.0/16");
  EXPECT_EQ(config->fabrics[1].rate_bits_per_s, 10'000'000'000u);
  ASSERT_EQ(config->nodes.size(), 4u);
  EXPECT_EQ(config->nodes[0].role, NodeRole::kHead);
  EXPECT_EQ(config->nodes[0].memory_bytes, 0u);
  EXPECT_EQ(config->nodes[3].role, NodeRole::kCompute);
  EXPECT_EQ(config->nodes[3].memory_bytes, 8ull << 30);
  EXPECT_EQ(config->nodes[3].addresses.at("1g"), "10.1.0.13");
}

TEST(Config, ALargeClusterHasRoomForTheConnectionsOfAllItsNodes) {
  constexpr int kNodes = 10'000;
  std::string text = "cluster: c\n" + kFabrics + "nodes:\n";
  for (int i = 0; i < kNodes; ++i) {
    const std::string host = std::to_string(1 + i / 250) + "." + std::to_string(1 + i % 250);
    text += "- {name: n" + std::to_string(i) + ", memory: 8GiB, addresses: {1g: 10.1." + host + ", 10g: 10.2." +
            host + "}}\n";
  }
  const auto config = parse_config(text, "lab.yaml");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->security.connections, 3 * kNodes);
  const auto given = parse_config(text + "security: {connections: 512}\n", "lab.yaml");
  ASSERT_TRUE(given.has_value()) << given.error().message;
  EXPECT_EQ(given->security.connections, 512);
}

TEST(Config, ANewerOneIsTakenAsFarAsADaemonCanWhileItRuns) {
  auto config = parse_config(kMinimal + "timeouts: {idle: 10s}\nlimits: {frozen_per_node: 2}\n", "lab.yaml");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  auto newer = parse_config("# the same\n" + kMinimal + "timeouts: {idle: 20s}\npeer: {port: 7421}\n", "lab.yaml");
  ASSERT_TRUE(newer.has_value()) << newer.error().message;
  ConfigChanges changes = config->reload(*newer);
  EXPECT_EQ(changes.taken, std::vector<std::string>{"timeouts"});
  EXPECT_EQ(changes.need_restart, (std::vector<std::string>{"limits", "peer"}));
  EXPECT_EQ(config->timeouts.idle, 20s);
  EXPECT_EQ(config->limits.frozen_per_node, 2);
  EXPECT_EQ(config->peer_port, 7420);
  changes = config->reload(*newer);
  EXPECT_TRUE(changes.taken.empty());
  EXPECT_EQ(changes.need_restart.size(), 2u) << "until it is restarted";
}

// The shipped file shows every default: what it sets must be what leaving it out gives.
TEST(Config, ShippedFileShowsTheDefaults) {
  const auto shipped = load_config(LIFEBOAT_SOURCE_DIR "/configs/lifeboat.yaml");
  const auto bare = parse_config(kMinimal, "lab.yaml");
  ASSERT_TRUE(shipped.has_value());
  ASSERT_TRUE(bare.has_value()) << bare.error().message;
  EXPECT_EQ(shipped->paths.state_dir, bare->paths.state_dir);
  EXPECT_EQ(shipped->paths.run_dir, bare->paths.run_dir);
  EXPECT_EQ(shipped->paths.criu, bare->paths.criu);
  EXPECT_EQ(shipped->paths.crun, bare->paths.crun);
  EXPECT_EQ(bare->paths.layers_dir, "/var/lib/lifeboat/layers");
  EXPECT_EQ(shipped->paths.layers_dir, bare->paths.layers_dir);
  EXPECT_EQ(shipped->paths.cgroup, bare->paths.cgroup);
  EXPECT_EQ(shipped->peer_port, bare->peer_port);
  EXPECT_EQ(shipped->nodes[1].slots, bare->nodes[0].slots);
  EXPECT_EQ(shipped->security.insecure, bare->security.insecure);
  EXPECT_EQ(shipped->security.ca, bare->security.ca);
  EXPECT_EQ(shipped->security.cert, bare->security.cert);
  EXPECT_EQ(shipped->security.key, bare->security.key);
  EXPECT_EQ(shipped->security.encrypt_pages, bare->security.encrypt_pages);
  EXPECT_EQ(shipped->security.admin_group, bare->security.admin_group);
  EXPECT_EQ(shipped->security.read_group, bare->security.read_group);
  EXPECT_EQ(shipped->security.connections, bare->security.connections);
  EXPECT_EQ(shipped->security.connections_per_peer, bare->security.connections_per_peer);
  EXPECT_EQ(shipped->security.requests_per_s, bare->security.requests_per_s);
  EXPECT_EQ(shipped->timeouts.connect, bare->timeouts.connect);
  EXPECT_EQ(shipped->timeouts.request, bare->timeouts.request);
  EXPECT_EQ(shipped->timeouts.freeze, bare->timeouts.freeze);
  EXPECT_EQ(shipped->timeouts.dump, bare->timeouts.dump);
  EXPECT_EQ(shipped->timeouts.idle, bare->timeouts.idle);
  EXPECT_EQ(shipped->timeouts.restore, bare->timeouts.restore);
  EXPECT_EQ(shipped->timeouts.commit, bare->timeouts.commit);
  EXPECT_EQ(shipped->network.tcp_rto_max, bare->network.tcp_rto_max);
  EXPECT_EQ(shipped->network.tcp_retries, bare->network.tcp_retries);
  EXPECT_EQ(shipped->network.hold, bare->network.hold);
  EXPECT_EQ(shipped->engine.connections, bare->engine.connections);
  EXPECT_EQ(shipped->engine.compression, bare->engine.compression);
  EXPECT_EQ(shipped->engine.downtime_budget, bare->engine.downtime_budget);
  EXPECT_EQ(shipped->engine.round_interval, bare->engine.round_interval);
  EXPECT_EQ(shipped->engine.rounds_max, bare->engine.rounds_max);
  EXPECT_EQ(shipped->engine.precopy_limit, bare->engine.precopy_limit);
  EXPECT_EQ(shipped->engine.patterns, bare->engine.patterns);
  EXPECT_EQ(shipped->engine.tracking, bare->engine.tracking);
  EXPECT_EQ(shipped->paths.libexec, bare->paths.libexec);
  EXPECT_EQ(shipped->timeouts.queue, bare->timeouts.queue);
  EXPECT_EQ(shipped->timeouts.total, bare->timeouts.total);
  EXPECT_EQ(shipped->registry.kind, bare->registry.kind);
  EXPECT_EQ(shipped->registry.timeout, bare->registry.timeout);
  EXPECT_EQ(shipped->registry.lease, bare->registry.lease);
  EXPECT_EQ(shipped->limits.migrations_per_node, bare->limits.migrations_per_node);
  EXPECT_EQ(shipped->limits.migrations_per_fabric, bare->limits.migrations_per_fabric);
  EXPECT_EQ(shipped->limits.arrivals_per_node, bare->limits.arrivals_per_node);
  EXPECT_EQ(shipped->limits.frozen_per_node, bare->limits.frozen_per_node);
  EXPECT_EQ(shipped->health.heartbeat_lost, bare->health.heartbeat_lost);
  EXPECT_EQ(shipped->health.hold, bare->health.hold);
  EXPECT_EQ(shipped->health.probation, bare->health.probation);
  EXPECT_EQ(shipped->evacuation.automatic, bare->evacuation.automatic);
  EXPECT_EQ(shipped->evacuation.bring_back, bare->evacuation.bring_back);
  EXPECT_EQ(shipped->evacuation.facility_nodes, bare->evacuation.facility_nodes);
  EXPECT_EQ(shipped->metrics, bare->metrics);
  EXPECT_EQ(shipped->slurm.enabled, bare->slurm.enabled);
  EXPECT_EQ(shipped->slurm.bin, bare->slurm.bin);
  EXPECT_EQ(shipped->slurm.timeout, bare->slurm.timeout);
  EXPECT_EQ(shipped->slurm.refresh, bare->slurm.refresh);
  EXPECT_EQ(shipped->slurm.outside_allocation, bare->slurm.outside_allocation);
}

TEST(Config, TheRegistryIsOnTheFirstHeadOrTheFirstNode) {
  const auto shipped = load_config(LIFEBOAT_SOURCE_DIR "/configs/lifeboat.yaml");
  ASSERT_TRUE(shipped.has_value());
  EXPECT_EQ(shipped->registry.node, "head");
  const auto bare = parse_config(kMinimal, "lab.yaml");
  ASSERT_TRUE(bare.has_value());
  EXPECT_EQ(bare->registry.node, bare->nodes.front().name);
}

TEST(Config, RegistryInEtcd) {
  const std::string etcd = kMinimal + "registry: {kind: etcd, ";
  const auto good = parse_config(
      etcd + "endpoints: ['https://e1:2379', 'http://10.0.0.1:1'], ca: /ca, cert: /c, key: /k}\n", "lab.yaml");
  ASSERT_TRUE(good.has_value()) << good.error().message;
  EXPECT_EQ(good->registry.endpoints.size(), 2U);
  EXPECT_EQ(good->registry.prefix, "/lifeboat/" + good->cluster + "/");
  EXPECT_NE(told(etcd + "ca: /ca}\n").find("endpoints"), std::string::npos);
  EXPECT_NE(told(etcd + "endpoints: ['https://e1:2379']}\n").find("need the file of the CA"),
            std::string::npos);
  EXPECT_NE(told(etcd + "endpoints: ['e1:2379'], ca: /ca}\n").find("expected a URL such as"),
            std::string::npos);
  EXPECT_NE(told(etcd + "endpoints: ['http://e1:1'], cert: /c}\n").find("belong together"),
            std::string::npos);
  EXPECT_NE(told(kMinimal + "registry: {node: nobody}\n").find("no node is called 'nobody'"),
            std::string::npos);
}

TEST(Config, ShippedFileShowsTheDefaultsOfThePredictor) {
  const auto shipped = load_config(LIFEBOAT_SOURCE_DIR "/configs/lifeboat.yaml");
  ASSERT_TRUE(shipped.has_value());
  const predictor::PredictorConfig& file = shipped->predictor;
  const predictor::PredictorConfig bare;
  EXPECT_EQ(file.horizon, bare.horizon);
  EXPECT_EQ(file.lead_min, bare.lead_min);
  EXPECT_EQ(file.degraded_at, bare.degraded_at);
  EXPECT_EQ(file.healthy_below, bare.healthy_below);
  EXPECT_EQ(file.hold, bare.hold);
  EXPECT_EQ(file.evidence_max, bare.evidence_max);
  EXPECT_EQ(file.nodes_max, bare.nodes_max);
  EXPECT_EQ(file.filter.temporal, bare.filter.temporal);
  EXPECT_EQ(file.filter.semantic, bare.filter.semantic);
  EXPECT_EQ(file.filter.gap, bare.filter.gap);
  EXPECT_EQ(file.filter.length_max, bare.filter.length_max);
  EXPECT_EQ(file.filter.facility, bare.filter.facility);
  EXPECT_EQ(file.filter.facility_nodes, bare.filter.facility_nodes);
  EXPECT_EQ(file.templates.on, bare.templates.on);
  EXPECT_EQ(file.templates.max, bare.templates.max);
  EXPECT_EQ(file.templates.prior_weight, bare.templates.prior_weight);
  EXPECT_EQ(file.memory.on, bare.memory.on);
  EXPECT_EQ(file.memory.corrected_max, bare.memory.corrected_max);
  EXPECT_EQ(file.memory.processor_max, bare.memory.processor_max);
  EXPECT_EQ(file.memory.window, bare.memory.window);
  EXPECT_EQ(file.memory.regions_max, bare.memory.regions_max);
  EXPECT_EQ(file.memory.storm, bare.memory.storm);
  EXPECT_EQ(file.history.on, bare.history.on);
  EXPECT_EQ(file.history.learning, bare.history.learning);
}

TEST(Config, PredictorIsSetKeyByKey) {
  const auto config = parse_config(
      kMinimal +
          "predictor:\n  horizon: 2h\n  hold: 30min\n  filter: {gap: 1min, facility: false}\n"
          "  templates: {enabled: false}\n  memory: {corrected_max: 2.5}\n  history: {learning: 0}\n",
      "lab.yaml");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->predictor.horizon, 2h);
  EXPECT_EQ(config->predictor.hold, 30min);
  EXPECT_EQ(config->predictor.filter.gap, 1min);
  EXPECT_FALSE(config->predictor.filter.facility);
  EXPECT_FALSE(config->predictor.templates.on);
  EXPECT_EQ(config->predictor.memory.corrected_max, 2.5);
  EXPECT_EQ(config->predictor.history.learning, 0);
}

TEST(Config, PredictorMistakesAreNamed) {
  const auto with = [](const std::string& text) {
    return told(kMinimal + "predictor: {" + text + "}\n");
  };
  EXPECT_EQ(with("horizon: 1s"),
            "lab.yaml:7:22: predictor.horizon: expected a duration from 1min to 8760h "
            "(unit ms, s, min or h), got '1s'");
  EXPECT_EQ(with("degraded_at: 0.2, healthy_below: 0.3"),
            "lab.yaml:7:46: predictor.healthy_below: must not be above degraded_at");
  EXPECT_EQ(with("memory: {corrected_max: ten}"),
            "lab.yaml:7:37: predictor.memory.corrected_max: expected a number from 1 to 1000000, "
            "got 'ten'");
}

TEST(Config, Defaults) {
  const auto config = parse_config(kMinimal, "lab.yaml");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->default_fabric, "1g");
  EXPECT_EQ(config->peer_port, 7420);
  EXPECT_EQ(config->timeouts.dump, 10min);
  EXPECT_EQ(config->network.tcp_retries, 255);
  char host[256] = {};
  ASSERT_EQ(::gethostname(host, sizeof host - 1), 0);
  EXPECT_EQ(config->node, std::string(host).substr(0, std::string(host).find('.')));
}

TEST(Config, Finds) {
  const auto config = parse_config(kMinimal + "node: n1\n", "lab.yaml");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->node, "n1");
  EXPECT_EQ(config->find_node("n1"), &config->nodes[0]);
  EXPECT_EQ(config->find_node("n9"), nullptr);
  EXPECT_EQ(config->find_fabric("10g"), &config->fabrics[1]);
  EXPECT_EQ(config->find_fabric(""), nullptr);
}

TEST(Config, SectionsMayBeLeftEmpty) {
  EXPECT_EQ(told(kMinimal + "paths:\npeer:\ntimeouts: {}\nnetwork: ~\nlimits:\n"), "");
}

TEST(Config, TenMistakesInOneRun) {
  const std::string text =
      "cluster: Lab\n"                                                             // 1
      "paths: {state_dir: var/lib}\n"                                              // 2
      "fabrics:\n"                                                                 // 3
      "  - {name: 1g, bridge: br-1g, subnet: 10.1.0.1/16, rate: 1Gbit}\n"          // 4
      "  - {name: 10g, bridge: br-1g, subnet: 10.2.0.0/16, rate: 10}\n"            // 5
      "nodes:\n"                                                                   // 6
      "  - {name: n1, memory: 8GiB, addresses: {1g: 10.1.0.11, 10g: 10.3.0.1}}\n"  // 7
      "  - {name: n1, memory: 8GB, addresses: {1g: 10.1.0.12, 10g: 10.2.0.12}}\n"  // 8
      "timeouts:\n"                                                                // 9
      "  freeze: 10\n"                                                             // 10
      "limits:\n"                                                                  // 11
      "  migration_per_node: eight\n";                                             // 12
  EXPECT_EQ(told(text),
            "lab.yaml:1:10: cluster: expected a name of 1 to 32 characters a-z, 0-9 or '-' "
            "(not first), got 'Lab'\n"
            "lab.yaml:2:20: paths.state_dir: expected an absolute path of at most 1024 bytes, "
            "got 'var/lib'\n"
            "lab.yaml:4:39: fabrics[0].subnet: expected an IPv4 subnet such as 10.1.0.0/16 "
            "(8 to 30 bits, no host bits set), got '10.1.0.1/16'\n"
            "lab.yaml:5:25: fabrics[1].bridge: 'br-1g' appears twice (first at line 4)\n"
            "lab.yaml:5:59: fabrics[1].rate: expected a rate from 1Mbit to 1000Gbit "
            "(unit Mbit or Gbit), got '10'\n"
            "lab.yaml:7:62: nodes[0].addresses.10g: expected an IPv4 address of a host in "
            "10.2.0.0/16, got '10.3.0.1'\n"
            "lab.yaml:8:12: nodes[1].name: 'n1' appears twice (first at line 7)\n"
            "lab.yaml:8:24: nodes[1].memory: expected a size from 1MiB to 1024TiB "
            "(unit B, KiB, MiB, GiB or TiB), got '8GB'\n"
            "lab.yaml:10:11: timeouts.freeze: expected a duration from 100ms to 10min "
            "(unit ms, s, min or h), got '10'\n"
            "lab.yaml:12:3: limits.migration_per_node: unknown key; "
            "did you mean 'migrations_per_node'?");
}

TEST(Config, WhatIsRequired) {
  EXPECT_EQ(told("{}"),
            "lab.yaml:1:1: cluster: required key is missing\n"
            "lab.yaml:1:1: fabrics: required key is missing\n"
            "lab.yaml:1:1: nodes: required key is missing");
  EXPECT_EQ(told("cluster: c\nfabrics:\n- {}\nnodes:\n- {}\n"),
            "lab.yaml:3:3: fabrics[0].name: required key is missing\n"
            "lab.yaml:3:3: fabrics[0].bridge: required key is missing\n"
            "lab.yaml:3:3: fabrics[0].subnet: required key is missing\n"
            "lab.yaml:3:3: fabrics[0].rate: required key is missing\n"
            "lab.yaml:5:3: nodes[0].name: required key is missing\n"
            "lab.yaml:5:3: nodes[0].memory: required key is missing");
  EXPECT_EQ(told("cluster: c\n" + kFabrics + "nodes:\n- {name: n1, memory: 1GiB}\n"),
            "lab.yaml:6:3: nodes[0].addresses.1g: required key is missing\n"
            "lab.yaml:6:3: nodes[0].addresses.10g: required key is missing");
}

TEST(Config, NamesMustBeKnown) {
  EXPECT_EQ(told(kMinimal + "default_fabric: 40g\n"),
            "lab.yaml:7:17: default_fabric: no fabric is called '40g'");
  EXPECT_EQ(told(kMinimal + "node: n2\n"), "lab.yaml:7:7: node: no node is called 'n2'");
  EXPECT_EQ(told(kMinimal + "timeout: {}\n"),
            "lab.yaml:7:1: timeout: unknown key; did you mean 'timeouts'?");
  EXPECT_EQ(told("cluster: c\n" + kFabrics +
                 "nodes:\n- name: n1\n  role: boss\n  memory: 1GiB\n"
                 "  addresses: {1g: 10.1.0.11, 10g: 10.2.0.11, 40g: 10.3.0.11}\n"),
            "lab.yaml:7:9: nodes[0].role: expected one of head, compute, got 'boss'\n"
            "lab.yaml:9:46: nodes[0].addresses.40g: unknown key; did you mean '10g'?");
}

TEST(Config, ThePageIsOpenToNobodyByMistake) {
  const auto page = parse_config(kMinimal + "page: {listen: 0.0.0.0:9465, token_file: /t}\n", "lab.yaml");
  ASSERT_TRUE(page.has_value()) << page.error().message;
  EXPECT_EQ(page->page.listen, (ListenConfig{"0.0.0.0", 9465}));
  EXPECT_EQ(page->page.token_file, "/t");
  EXPECT_EQ(told(kMinimal + "page: {listen: 127.0.0.1:9465}\n"), "");
  EXPECT_EQ(told(kMinimal + "page: {listen: 10.1.0.11:9465}\n"),
            "lab.yaml:7:16: page.listen: whoever can connect could look; give a token_file, or listen on 127.0.0.1 "
            "only");
  EXPECT_EQ(told(kMinimal + "security: {insecure: true}\npage: {listen: 0.0.0.0:9465, token_file: /t}\n"),
            "lab.yaml:8:16: page.listen: with security.insecure there is no TLS for it; listen on 127.0.0.1 only");
  EXPECT_EQ(told(kMinimal + "page: {listen: n1:80}\n"),
            "lab.yaml:7:16: page.listen: expected an IPv4 address of this node and a port, such as 127.0.0.1:9464, got "
            "'n1:80'");
}

TEST(Config, AddressesMustFit) {
  const auto with = [](const std::string& first, const std::string& second) {
    return told("cluster: c\n" + kFabrics + "nodes:\n- {name: n1, memory: 1GiB, addresses: {1g: " +
                first + ", 10g: " + second + "}}\n");
  };
  const std::string in_1g = "expected an IPv4 address of a host in 10.1.0.0/16, got ";
  EXPECT_EQ(with("10.1.255.254", "10.2.0.1"), "");
  for (const char* bad : {"10.1.0.0", "10.1.255.255", "10.2.0.1", "10.1.1", "10.1.0.256", "n1",
                          "010.1.0.1", "fe80::1"}) {
    EXPECT_EQ(with(bad, "10.2.0.1"),
              "lab.yaml:6:44: nodes[0].addresses.1g: " + in_1g + "'" + bad + "'");
  }
  EXPECT_EQ(told(kMinimal + "  - {name: n2, memory: 1GiB, addresses: {1g: 10.1.0.11, "
                            "10g: 10.2.0.12}}\n"),
            "lab.yaml:7:46: nodes[1].addresses.1g: '10.1.0.11' appears twice (first at line 6)");
}

TEST(Config, SubnetsMustNotOverlap) {
  const auto with = [](const std::string& subnet) {
    return told(
        "cluster: c\nfabrics:\n- {name: a, bridge: a, subnet: 10.0.0.0/12, rate: 1Gbit}\n"
        "- {name: b, bridge: b, subnet: " +
        subnet +
        ", rate: 1Gbit}\n"
        "nodes:\n- {name: n1, memory: 1GiB, addresses: {a: 10.0.0.1, b: 10.16.0.1}}\n");
  };
  EXPECT_EQ(with("10.16.0.0/16"), "");
  EXPECT_TRUE(with("10.15.0.0/16")
                  .starts_with("lab.yaml:4:32: fabrics[1].subnet: 10.15.0.0/16 overlaps "
                               "10.0.0.0/12 of fabric 'a'"));
  for (const char* bad : {"10.16.0.0", "10.16.0.0/31", "10.16.0.0/7", "10.16.0.1/16", "10.16.0.0/",
                          "10.16.0.0/ 16", "/16", "0.0.0.0/0"}) {
    EXPECT_TRUE(with(bad).starts_with("lab.yaml:4:32: fabrics[1].subnet: expected an IPv4 subnet"))
        << bad;
  }
}

TEST(Config, PathsAndPrograms) {
  const auto with = [](const std::string& line) {
    return told(kMinimal + "paths: {" + line + "}");
  };
  EXPECT_EQ(with("criu: /opt/criu/bin/criu, cgroup: system.slice/lifeboat"), "");
  EXPECT_EQ(with("criu: bin/criu"),
            "lab.yaml:7:15: paths.criu: expected a program's name or absolute path, "
            "got 'bin/criu'");
  for (const char* bad : {"/lifeboat", "../x", "a/../../x", "a//b", "a/", "."}) {
    EXPECT_EQ(with(std::string("cgroup: ") + bad),
              "lab.yaml:7:17: paths.cgroup: expected a path below the cgroup mount, such as "
              "lifeboat or system.slice/lifeboat, got '" +
                  std::string(bad) + "'");
  }
  EXPECT_EQ(with("run_dir: /" + std::string(64, 'r')),
            "lab.yaml:7:18: paths.run_dir: expected an absolute path of at most 64 bytes, got '/" +
                std::string(59, 'r') + "...'");
}

TEST(Config, RangesHold) {
  EXPECT_EQ(told(kMinimal + "peer: {port: 65536}\n"),
            "lab.yaml:7:14: peer.port: expected an integer from 1 to 65535, got '65536'");
  EXPECT_EQ(told(kMinimal + "network: {tcp_rto_max: 500ms, tcp_retries: 256}\n"),
            "lab.yaml:7:24: network.tcp_rto_max: expected a duration from 1s to 2min "
            "(unit ms, s, min or h), got '500ms'\n"
            "lab.yaml:7:44: network.tcp_retries: expected an integer from 3 to 255, got '256'");
}

TEST(Config, FileThatIsNotThere) {
  const auto config = load_config("/nonexistent/lifeboat.yaml");
  ASSERT_FALSE(config.has_value());
  EXPECT_EQ(config.error().code, Errc::kSystem);
  EXPECT_EQ(config.error().message,
            "read /nonexistent/lifeboat.yaml: No such file or directory; "
            "a YAML file that this user may read is needed");
}

}  // namespace
}  // namespace lifeboat
