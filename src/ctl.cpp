// lifeboat - the operator's command. A table of verbs; each talks to the local daemon and prints a
// table, or with --json what the daemon said.
#include <CLI/CLI.hpp>
#include <csignal>
#include <functional>
#include <iostream>
#include <thread>

#include "api_client.hpp"
#include "job.hpp"
#include "table.hpp"

namespace {

using namespace lifeboat;

enum ExitCode : int { kOk = 0, kFailed = 1, kUsage = 2, kNoDaemon = 3 };

struct Options {
  std::string socket = "/run/lifeboat/api.sock";
  bool as_json = false;
  std::string name;  // container, job, migration or file
  std::string to;
  std::string fabric;
  bool detach = false;
  bool follow = false;
};

volatile std::sig_atomic_t interrupted = 0;

int tell(const Error& error, const Options& options) {
  if (options.as_json) {
    const json::object body{
        {"error", json::object{{"code", to_string(error.code)}, {"message", error.message}}}};
    std::cout << json::serialize(body) << "\n";
  } else {
    std::cerr << "lifeboat: " << error.message << "\n";
  }
  return error.code == Errc::kUnavailable ? kNoDaemon : kFailed;
}

void print_json(const json::object& object) { std::cout << json::serialize(object) << "\n"; }

std::string mib(const json::object& object, std::string_view key) {
  return std::to_string(static_cast<std::uint64_t>(number_or(object, key)) >> 20) + " MiB";
}

std::string fixed(double value, int digits) {
  char text[48];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

// Shows one list of an answer as a table.
int show_list(const Result<json::object>& answer, const Options& options, const char* key,
              const std::vector<std::string>& head,
              const std::function<std::vector<std::string>(const json::object&)>& row) {
  if (!answer) return tell(answer.error(), options);
  if (options.as_json) {
    print_json(*answer);
    return kOk;
  }
  Table table(head);
  auto list = get_array(*answer, key);
  if (!list) return tell(list.error(), options);
  for (const json::value& item : **list) table.add(row(item.get_object()));
  std::cout << table.text();
  if (auto silent = get_array(*answer, "unreachable"); silent && !(*silent)->empty()) {
    std::cerr << "lifeboat: these nodes do not answer: " << json::serialize(**silent) << "\n";
  }
  return kOk;
}

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

int nodes(ApiClient& api, const Options& options) {
  return show_list(api.get("/v1/nodes"), options, "nodes",
                   {"NODE", "ROLE", "STATE", "CONTAINERS", "SLOTS FREE", "MEMORY FREE", "CRIU"},
                   [](const json::object& node) -> std::vector<std::string> {
                     const json::value* reachable = node.if_contains("reachable");
                     const bool up = reachable != nullptr && reachable->is_bool() &&
                                     reachable->get_bool();
                     if (!up) return {string_or(node, "name"), string_or(node, "role"), "unreachable"};
                     auto list = get_array(node, "containers");
                     return {string_or(node, "name"), string_or(node, "role"), "up",
                             std::to_string(list ? (*list)->size() : 0),
                             fixed(number_or(node, "slots_free"), 0), mib(node, "memory_free_bytes"),
                             string_or(node, "criu", "-")};
                   });
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

std::vector<std::string> migration_row(const json::object& item) {
  return {string_or(item, "id"),      string_or(item, "container"),
          string_or(item, "source"),  string_or(item, "target"),
          string_or(item, "fabric"),  string_or(item, "outcome"),
          mib(item, "bytes_sent"),    fixed(number_or(item, "downtime_ms"), 0) + " ms",
          fixed(number_or(item, "total_ms"), 0) + " ms"};
}

const std::vector<std::string> kMigrationHead = {"MIGRATION", "CONTAINER", "FROM", "TO", "FABRIC",
                                                 "OUTCOME",   "SENT",      "DOWNTIME", "TOTAL"};

int migrations(ApiClient& api, const Options& options) {
  if (options.name.empty()) {
    return show_list(api.get("/v1/migrations"), options, "migrations", kMigrationHead,
                     migration_row);
  }
  auto answer = api.get("/v1/migrations/" + options.name);
  if (!answer) return tell(answer.error(), options);
  print_json(*answer);
  return kOk;
}

std::string parts_text(const json::object& report) {
  auto parts = get_object(report, "downtime_parts_ms");
  if (!parts) return "";
  std::string text;
  for (const auto& part : **parts) {
    text += (text.empty() ? "" : ", ") + std::string(part.key()) + " " +
            fixed(part.value().to_number<double>(), 1);
  }
  return text;
}

int migrate(ApiClient& api, const Options& options) {
  json::object body{{"to", options.to}};
  if (!options.fabric.empty()) body["fabric"] = options.fabric;
  auto accepted = api.post("/v1/containers/" + options.name + "/migrate", body);
  if (!accepted) return tell(accepted.error(), options);
  const std::string id = string_or(*accepted, "id");
  if (!options.as_json) std::cerr << "migration " << id << "\n";
  std::string phase;
  for (;;) {
    // The migration is the daemon's: it goes on whether or not anybody watches.
    auto report = api.get("/v1/migrations/" + id);
    if (!report) return tell(report.error(), options);
    const std::string now = string_or(*report, "phase");
    if (now != phase && !options.as_json) std::cerr << "  " << now << "\n";
    phase = now;
    const std::string outcome = string_or(*report, "outcome");
    // The outcome is set a moment before the source has cleaned up and the total is known.
    const bool over = outcome != "running" && outcome != "in-doubt" &&
                      number_or(*report, "total_ms") > 0;
    if (!over) {
      std::this_thread::sleep_for(Milliseconds(20));
      continue;
    }
    if (options.as_json) print_json(*report);
    if (outcome == "committed") {
      if (!options.as_json) {
        std::cout << options.name << " runs on " << options.to << ": downtime "
                  << fixed(number_or(*report, "downtime_ms"), 1) << " ms (" << parts_text(*report)
                  << "), " << mib(*report, "bytes_sent") << " over " << string_or(*report, "fabric")
                  << " in " << fixed(number_or(*report, "total_ms"), 0) << " ms\n";
      }
      return kOk;
    }
    if (!options.as_json) {
      std::cerr << "lifeboat: not moved, " << options.name << " runs on at "
                << string_or(*report, "source") << "\n  failed in: " << phase
                << "\n  because: " << string_or(*report, "error") << "\n";
    }
    return kFailed;
  }
}

// Prints what a job or container has printed so far, or all until it ends.
int follow_logs(ApiClient& api, const Options& options, const std::string& path, bool follow) {
  std::uint64_t offset = 0;
  for (;;) {
    auto answer = api.get(path + "?offset=" + std::to_string(offset));
    if (!answer) return tell(answer.error(), options);
    const std::string text = string_or(*answer, "text");
    if (options.as_json) {
      print_json(*answer);
    } else {
      std::cout << text << std::flush;
    }
    const auto next = static_cast<std::uint64_t>(number_or(*answer, "offset"));
    const json::value* running = answer->if_contains("running");
    const bool more = running != nullptr && running->is_bool() && running->get_bool();
    const bool advanced = next != offset;
    offset = next;
    if (interrupted != 0) return kOk;
    if (advanced) continue;
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
  const json::object body{{"yaml", to_yaml(*spec)}, {"file", options.name}};
  auto started = api.post("/v1/jobs", body);
  if (!started) return tell(started.error(), options);
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
    {"migrate", "move a running container to another node", migrate},
    {"status", "this node's daemon", status},
    {"nodes", "all nodes", nodes},
    {"ps", "containers on all nodes", ps},
    {"logs", "what a job or a container printed", logs},
    {"kill", "end a job or a container", kill},
    {"migrations", "migrations that started on this node, or one of any node by its id", migrations},
};

void add_arguments(CLI::App& verb, Options& options) {
  const std::string name = verb.get_name();
  verb.add_flag("--json", options.as_json, "print what the daemon answers, as JSON");
  if (name == "run") {
    verb.add_option("JOB.yaml", options.name, "job description")->required();
    verb.add_flag("--detach", options.detach, "return once it runs");
  } else if (name == "migrate") {
    verb.add_option("CONTAINER", options.name)->required();
    verb.add_option("--to", options.to, "target node")->required();
    verb.add_option("--fabric", options.fabric, "network to use (default: default_fabric)");
  } else if (name == "logs") {
    verb.add_option("NAME", options.name, "job or container")->required();
    verb.add_flag("-f,--follow", options.follow, "go on until it ends");
  } else if (name == "kill") {
    verb.add_option("NAME", options.name, "job or container")->required();
  } else if (name == "migrations") {
    verb.add_option("ID", options.name, "one migration, whole");
  }
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  ApiClient api(options.socket);
  for (const Verb& verb : kVerbs) {
    if (app.got_subcommand(verb.name)) return verb.action(api, options);
  }
  return kUsage;
}
