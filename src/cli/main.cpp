// lifeboat - the operator's command. A table of verbs; each talks to the local daemon and prints a
// table, or with --json what the daemon said.
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <thread>

#include "cli/cli.hpp"
#include "job.hpp"

namespace {

using namespace lifeboat;

volatile std::sig_atomic_t interrupted = 0;

int status(ApiClient& api, const Options& options) {
  auto answer = api.get("/v1/status");
  if (!answer) return tell(answer.error(), options);
  if (options.as_json) {
    print_json(*answer);
    return kOk;
  }
  Table table({"", ""});
  for (const auto& item : *answer) {
    const std::string value = item.value().is_string() ? std::string(item.value().get_string())
                                                       : json::serialize(item.value());
    if (!value.empty()) table.add({std::string(item.key()), value});
  }
  std::cout << table.text();
  return kOk;
}

int ps(ApiClient& api, const Options& options) {
  return show_list(api.get("/v1/containers"), options, "containers",
                   {"CONTAINER", "JOB", "NODE", "STATE", "MEMORY", "RESERVED", "MIGRATION"},
                   [](const json::object& item) -> std::vector<std::string> {
                     return {string_or(item, "id"), string_or(item, "job"), string_or(item, "node"),
                             string_or(item, "state"), mib(item, "resident_bytes"),
                             mib(item, "memory_bytes"), string_or(item, "migration")};
                   });
}

// Prints what a job or container has printed so far, or all until it ends. An upgrade of the daemon must not end a
// batch script whose job runs on.
int follow_logs(ApiClient& api, const Options& options, const std::string& path, bool follow) {
  constexpr std::chrono::seconds kUpgrade{60};
  Patience patience(kUpgrade);
  std::uint64_t offset = 0;
  for (;;) {
    auto answer = api.get(path + "?offset=" + std::to_string(offset));
    if (!answer) {
      if (!follow || interrupted != 0 || !patience.allows(answer.error())) return tell(answer.error(), options);
      std::this_thread::sleep_for(Milliseconds(100));
      continue;
    }
    patience.answered();
    const std::string text = string_or(*answer, "text");
    if (options.as_json) {
      print_json(*answer);
    } else {
      std::cout << text << std::flush;
    }
    const auto next = static_cast<std::uint64_t>(number_or(*answer, "offset"));
    const bool more = flag(*answer, "running");
    const bool advanced = next != offset;
    offset = next;
    if (interrupted != 0) return kOk;
    if (advanced) continue;
    if (!more && !options.as_json && !string_or(*answer, "error").empty()) {
      std::cerr << "lifeboat: " << string_or(*answer, "error") << "\n";
    }
    if (!follow || !more) return kOk;
    std::this_thread::sleep_for(Milliseconds(100));
  }
}

// A job by that name if there is one, else a container.
Result<std::string> path_of(ApiClient& api, const std::string& name) {
  auto job = api.get("/v1/jobs/" + name);
  if (job) return "/v1/jobs/" + name;
  if (job.error().code == Errc::kUnavailable) return tl::unexpected<Error>(job.error());
  return "/v1/containers/" + name;
}

int logs(ApiClient& api, const Options& options) {
  auto path = path_of(api, options.name);
  if (!path) return tell(path.error(), options);
  return follow_logs(api, options, *path + "/logs", options.follow);
}

int kill(ApiClient& api, const Options& options) {
  auto path = path_of(api, options.name);
  if (!path) return tell(path.error(), options);
  auto answer = api.post(*path + "/kill", {});
  if (!answer) return tell(answer.error(), options);
  if (options.as_json) {
    print_json(*answer);
  } else {
    std::cout << options.name << " ended\n";
  }
  return kOk;
}

int run(ApiClient& api, const Options& options) {
  auto spec = load_job(options.name);
  if (!spec) {
    std::cerr << spec.error().message << "\n";
    return kUsage;
  }
  json::object body{{"yaml", to_yaml(*spec)}, {"file", options.name}};
  add_slurm_job(body);
  auto started = api.post("/v1/jobs", body);
  if (!started) return tell(started.error(), options);
  if (body.contains("slurm_job") && !started->contains("slurm_job")) {
    std::cerr << "lifeboat: warning: slurm.enabled is off on the head node: containers may be, and go, on any node, "
                 "whosever it is by Slurm\n";
  }
  if (options.detach) {
    if (options.as_json) {
      print_json(*started);
    } else {
      std::cout << "job " << spec->name << " runs; see: lifeboat logs --follow " << spec->name
                << "\n";
    }
    return kOk;
  }
  std::signal(SIGINT, [](int) { interrupted = 1; });
  std::signal(SIGTERM, [](int) { interrupted = 1; });
  const std::string path = "/v1/jobs/" + spec->name;
  Options plain = options;
  plain.as_json = false;
  if (const int code = follow_logs(api, plain, path + "/logs", true); code != kOk) return code;
  if (interrupted != 0) {
    std::cerr << "lifeboat: interrupted, ending job " << spec->name << "\n";
    (void)api.post(path + "/kill", {});
    return 128 + SIGINT;
  }
  auto ended = api.get(path);
  if (!ended) return tell(ended.error(), options);
  if (options.as_json) print_json(*ended);
  return static_cast<int>(number_or(*ended, "exit_code", kFailed));
}

struct Verb {
  const char* name;
  const char* help;
  int (*action)(ApiClient&, const Options&);
};

constexpr Verb kVerbs[] = {
    {"run", "start an MPI job in containers and follow it", run},
    {"migrate", "move running containers to other nodes", migrate},
    {"evacuate", "move everything off a node, which then takes nothing more", evacuate},
    {"status", "this node's daemon", status},
    {"nodes", "all nodes, or one: up, degraded or down, and why", nodes},
    {"ps", "containers on all nodes", ps},
    {"logs", "what a job or a container printed", logs},
    {"kill", "end a job or a container", kill},
    {"cancel", "stop a migration; the container runs on where it was", cancel},
    {"top", "the cluster now: nodes, containers, migrations as they proceed", top},
    {"migrations", "migrations that started on this node, or one of any node by its id", migrations},
    {"events", "what happened: states of nodes, migrations", events},
    {"resolve", "what is known of a migration in doubt, and a person's decision on it", resolve},
};

// `lifeboat node VERB`.
constexpr Verb kNodeVerbs[] = {
    {"degrade", "say that a node is not well: its containers leave, nothing is placed on it", node_degrade},
    {"restore", "say that a node is well, whatever was said against it", node_restore},
};

void add_arguments(CLI::App& verb, Options& options) {
  const std::string name = verb.get_name();
  verb.add_flag("--json", options.as_json, "print what the daemon answers, as JSON");
  if (name == "run") {
    verb.add_option("JOB.yaml", options.name, "job description")->required();
    verb.add_flag("--detach", options.detach, "return once it runs");
  } else if (name == "migrate") {
    verb.add_option("CONTAINER", options.names, "one or more");
    verb.add_option("--all-from", options.all_from, "instead: everything that runs on this node");
    verb.add_option("--to", options.to, "target node (with --all-from: default is where there is room)");
    verb.add_option("--fabric", options.fabric, "network to use (default: default_fabric)");
    verb.add_option("--mode", options.mode, "pre-copy (default), stop-and-copy, post-copy, hybrid or criu-images");
    verb.add_option("--bandwidth", options.bandwidth, "limit for its pages, in Mbit/s");
    verb.add_flag("--dry-run", options.dry_run, "check everything and predict, but move nothing");
  } else if (name == "nodes") {
    verb.add_option("NODE", options.name, "one node, with the evidence against it");
    verb.add_flag("-v,--verbose", options.verbose, "the evidence, too");
  } else if (name == "evacuate") {
    verb.add_option("NODE", options.name, "the node")->required();
    verb.add_flag("--dry-run", options.dry_run, "print the plan, but move nothing");
    verb.add_flag("--detach", options.detach, "return at once; it goes on");
    auto* by = verb.add_option("--by", options.by, "HH:MM, local time, by which it is to be empty: starts "
                                                   "as late as is safe");
    auto* within = verb.add_option("--within", options.within, "the same from now on: 30min, 2h")->excludes(by);
    verb.add_flag("--shutdown", options.shutdown, "the node is being shut down: stay until it is empty")
        ->excludes(by)->excludes(within);
  } else if (name == "degrade") {
    verb.add_option("NODE", options.name, "the node")->required();
    verb.add_option("--reason", options.reason, "why, in one line")->required();
  } else if (name == "restore") {
    verb.add_option("NODE", options.name, "the node")->required();
    auto* reason = verb.add_option("--reason", options.reason, "for the log, in one line");
    verb.add_flag("--shutdown", options.shutdown, "take back what `evacuate --shutdown` said, and only that")
        ->excludes(reason);
  } else if (name == "cancel") {
    verb.add_option("ID", options.name, "the migration")->required();
  } else if (name == "top") {
    verb.add_flag("--once", options.once, "print one table and return");
  } else if (name == "logs") {
    verb.add_option("NAME", options.name, "job or container")->required();
    verb.add_flag("-f,--follow", options.follow, "go on until it ends");
  } else if (name == "kill") {
    verb.add_option("NAME", options.name, "job or container")->required();
  } else if (name == "migrations") {
    auto* id = verb.add_option("ID", options.name, "one migration, whole");
    verb.add_option("--trace", options.trace, "write it to this file, for Perfetto or chrome://tracing")->needs(id);
    verb.add_flag("--all", options.all, "of all nodes, not of this one only")->excludes(id);
  } else if (name == "events") {
    verb.add_option("--since", options.since, "how far back")->capture_default_str();
    verb.add_flag("-f,--follow", options.follow, "go on, with what happens from now on");
    verb.add_flag("--all", options.all, "of all nodes, not of this one only");
  } else if (name == "resolve") {
    verb.add_option("ID", options.name, "the migration")->required();
    auto* source = verb.add_flag("--source", options.at_source, "decide: the container runs at its source");
    verb.add_flag("--target", options.at_target, "decide: it runs at its target")->excludes(source);
    verb.add_option("--on", options.to, "its target, when its source does not answer");
    verb.add_flag("--yes", options.yes, "do not ask for confirmation");
  }
}

// What CLI11 cannot express.
void check_migrate(const Options& options) {
  if (options.names.empty() == options.all_from.empty()) {
    throw CLI::RequiredError("Either CONTAINER or --all-from");
  }
  if (options.to.empty() && options.all_from.empty()) throw CLI::RequiredError("--to");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Moves MPI containers off nodes before they fail"};
  Options options;
  app.set_version_flag("--version", LIFEBOAT_VERSION);
  app.add_option("--socket", options.socket, "the daemon's socket")
      ->envname("LIFEBOAT_SOCKET")
      ->capture_default_str();
  app.require_subcommand(1);
  for (const Verb& verb : kVerbs) add_arguments(*app.add_subcommand(verb.name, verb.help), options);
  CLI::App* node = app.add_subcommand("node", "what an operator says of a node")->require_subcommand(1);
  for (const Verb& verb : kNodeVerbs) {
    add_arguments(*node->add_subcommand(verb.name, verb.help), options);
  }
  const std::function<int()> pki = add_pki(app);
  const std::function<int()> check = add_check(app);
  try {
    app.parse(argc, argv);
    if (app.got_subcommand("migrate")) check_migrate(options);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  if (app.got_subcommand("pki")) return pki();
  if (app.got_subcommand("check")) return check();
  ApiClient api(options.socket);
  for (const Verb& verb : kVerbs) {
    if (app.got_subcommand(verb.name)) return verb.action(api, options);
  }
  for (const Verb& verb : kNodeVerbs) {
    if (node->got_subcommand(verb.name)) return verb.action(api, options);
  }
  return kUsage;
}
