// `lifeboat pki`: certificates, made without any daemon.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "cli/cli.hpp"
#include "pki.hpp"

namespace lifeboat {

namespace {

struct PkiOptions {
  std::string directory = "/etc/lifeboat/pki";
  std::string cluster;
  std::string node;
  NodeRole role = NodeRole::kCompute;
  int ca_days = 3650;
  int days = 365;
};

int told(const Status& done, const std::string& text) {
  if (!done) {
    std::cerr << "lifeboat: " << done.error().message << "\n";
    return kFailed;
  }
  std::cout << text << "\n";
  return kOk;
}

}  // namespace

std::function<int()> add_pki(CLI::App& app) {
  const auto options = std::make_shared<PkiOptions>();
  CLI::App* const pki = app.add_subcommand("pki", "certificates for the nodes")->require_subcommand(1);
  pki->add_option("--dir", options->directory, "where the CA and the certificates are")->capture_default_str();
  CLI::App* const init = pki->add_subcommand("init", "make a certificate authority");
  init->add_option("--cluster", options->cluster, "the name of the cluster (cluster, in the configuration)")
      ->required();
  init->add_option("--days", options->ca_days, "how long it is good")
      ->check(CLI::Range(1, 36'500))
      ->capture_default_str();
  CLI::App* const node = pki->add_subcommand("node", "make a node's key and certificate");
  node->add_option("NAME", options->node, "the node")->required();
  const std::map<std::string, NodeRole> roles{{"compute", NodeRole::kCompute}, {"head", NodeRole::kHead}};
  node->add_option("--role", options->role, "what it may do: compute (default) or head")
      ->transform(CLI::CheckedTransformer(roles));
  CLI::App* const renew = pki->add_subcommand("renew", "make another key and certificate for a node");
  renew->add_option("NAME", options->node, "the node")->required();
  for (CLI::App* const verb : {node, renew}) {
    verb->add_option("--days", options->days, "how long it is good")
        ->check(CLI::Range(1, 36'500))
        ->capture_default_str();
  }
  return [options, init, node] {
    const Pki authority(options->directory);
    if (init->parsed()) {
      return told(authority.init(options->cluster, options->ca_days),
                  authority.path("ca", ".crt") + " goes to every node; keep ca.key off them");
    }
    const Status done = node->parsed() ? authority.add_node(options->node, options->role, options->days)
                                       : authority.renew(options->node, options->days);
    return told(done, authority.path(options->node, ".crt") + " and .key go to node " + options->node +
                          " (security.cert, security.key)");
  };
}

}  // namespace lifeboat
