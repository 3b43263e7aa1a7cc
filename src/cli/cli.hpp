// cli.hpp - what the verbs of `lifeboat` share.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "api_client.hpp"
#include "table.hpp"

namespace CLI {
class App;
}

namespace lifeboat {

enum ExitCode : int { kOk = 0, kFailed = 1, kUsage = 2, kNoDaemon = 3 };

struct Options {
  std::string socket = "/run/lifeboat/api.sock";
  bool as_json = false;
  std::string name;  // container, job, migration, node or file
  std::vector<std::string> names;  // containers to move
  std::string all_from;            // a node: all its containers
  std::string to;
  std::string fabric;
  bool detach = false;
  bool follow = false;
  std::string mode;
  unsigned bandwidth = 0;  // Mbit/s
  bool dry_run = false;
  bool once = false;
  bool verbose = false;
  bool at_source = false;
  bool at_target = false;
  bool yes = false;
  std::string reason;
  std::string by;      // a time of day
  std::string within;  // a duration
  bool shutdown = false;  // the node's own, of evacuate and node restore
  std::string trace;   // a file
  std::string since = "24h";
  bool all = false;    // nodes
};

// Says what went wrong; returns the exit code for it.
int tell(const Error& error, const Options& options);
void print_json(const json::object& object);
std::string mib(const json::object& object, std::string_view key);
std::string fixed(double value, int digits);
// Shows one list of an answer as a table.
int show_list(const Result<json::object>& answer, const Options& options, const char* key,
              const std::vector<std::string>& head,
              const std::function<std::vector<std::string>(const json::object&)>& row);

// Whether to ask again what is being followed: a node that is about to fail may not answer for a while, and what
// its daemon does goes on meanwhile.
class Patience {
 public:
  explicit Patience(std::chrono::seconds limit = std::chrono::seconds(15)) : limit_(limit) {}

  void answered() { silent_since_.reset(); }
  // After an answer that is an error. False: it says more than that nobody answers, or the limit is over.
  bool allows(const Error& error);

 private:
  std::chrono::seconds limit_;
  std::optional<std::chrono::steady_clock::time_point> silent_since_;
};

// nodes.cpp, evacuate.cpp
int nodes(ApiClient& api, const Options& options);
int node_degrade(ApiClient& api, const Options& options);
int node_restore(ApiClient& api, const Options& options);
int evacuate(ApiClient& api, const Options& options);

// migrate.cpp, migrations.cpp, top.cpp, resolve.cpp, events.cpp
int migrate(ApiClient& api, const Options& options);
int cancel(ApiClient& api, const Options& options);
int top(ApiClient& api, const Options& options);
int migrations(ApiClient& api, const Options& options);
int resolve(ApiClient& api, const Options& options);
int events(ApiClient& api, const Options& options);

// slurm.cpp: says to the request of a job in which job of Slurm this is, if it is in one; warns about what would end
// that with one of its nodes.
void add_slurm_job(json::object& request);

// pki.cpp, check.cpp: add `lifeboat pki` and its verbs, `lifeboat check` to `app`; return what runs the one that
// was given. They need no daemon.
std::function<int()> add_pki(CLI::App& app);
std::function<int()> add_check(CLI::App& app);

}  // namespace lifeboat
