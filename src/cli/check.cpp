// `lifeboat check`: whether this node is fit for Lifeboat. Needs no daemon.
#include "check.hpp"

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>

#include "cli/cli.hpp"

namespace lifeboat {

namespace {

struct CheckOptions {
  std::string config = "/etc/lifeboat/lifeboat.yaml";
  std::string node;
  bool local = false;
  bool measure = true;
  bool quiet = false;
  bool as_json = false;
};

void print(const Findings& findings, bool quiet) {
  constexpr const char* kMarks[] = {"ok      ", "warning ", "ERROR   "};
  for (const Finding& finding : findings.all()) {
    if (quiet && finding.fitness == Fitness::kOk) continue;
    std::cout << kMarks[static_cast<int>(finding.fitness)] << finding.subject << ": " << finding.found << "\n";
    if (!finding.why.empty()) std::cout << "          why: " << finding.why << "\n";
    if (!finding.fix.empty()) std::cout << "          fix: " << finding.fix << "\n";
  }
  std::size_t counts[3] = {};
  for (const Finding& finding : findings.all()) ++counts[static_cast<int>(finding.fitness)];
  if (!quiet || findings.fitness() != Fitness::kOk) {
    std::cout << counts[0] << " ok, " << counts[1] << " warnings, " << counts[2] << " errors\n";
  }
}

awaitable<Findings> look(const Config& config, std::string self, const CheckOptions& options) {
  Findings findings = co_await check_machine(config, self, options.local);
  if (!options.local) findings.append(co_await check_cluster(config, self, options.measure));
  co_return findings;
}

int check(const CheckOptions& options) {
  auto config = load_config(options.config);
  if (!config) {
    std::cerr << config.error().message << "\n";
    return kUsage;
  }
  const std::string self = options.node.empty() ? config->node : options.node;
  if (config->find_node(self) == nullptr) {
    std::cerr << options.config << ": nodes: this node, '" << self << "', is not listed; add it, or say --node NAME\n";
    return kUsage;
  }
  std::signal(SIGPIPE, SIG_IGN);
  asio::io_context context(1);
  Findings findings;
  asio::co_spawn(context, look(*config, self, options), [&](std::exception_ptr thrown, Findings found) {
    if (thrown) std::rethrow_exception(thrown);
    findings = std::move(found);
    context.stop();  // what the registry's client keeps going
  });
  context.run();
  if (options.as_json) {
    json::array list;
    for (const Finding& finding : findings.all()) list.push_back(to_json(finding));
    print_json({{"node", self}, {"result", to_string(findings.fitness())}, {"findings", std::move(list)}});
  } else {
    print(findings, options.quiet);
  }
  return findings.fitness() == Fitness::kError ? kFailed : kOk;
}

}  // namespace

std::function<int()> add_check(CLI::App& app) {
  const auto options = std::make_shared<CheckOptions>();
  CLI::App* const verb = app.add_subcommand("check", "whether this node is fit: each prerequisite, and how to mend it");
  verb->add_option("--config", options->config, "configuration file")->capture_default_str();
  verb->add_option("--node", options->node, "this node's name (default: the host name)");
  verb->add_flag("--local", options->local, "look at this machine only; ask no other node");
  verb->add_flag("!--no-rate", options->measure, "do not measure the fabrics (half a second each, at full rate)");
  verb->add_flag("-q,--quiet", options->quiet, "what is ok is not worth a line");
  verb->add_flag("--json", options->as_json, "as JSON");
  return [options] { return check(*options); };
}

}  // namespace lifeboat
