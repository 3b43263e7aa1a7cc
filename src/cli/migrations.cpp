// `lifeboat migrations` and `lifeboat top`: what moved, and what is moving.
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <thread>

#include "base/asio.hpp"
#include "cli/cli.hpp"
#include "cli/progress.hpp"
#include "cluster_view.hpp"
#include "migration_trace.hpp"

namespace lifeboat {

namespace {

std::vector<std::string> migration_row(const json::object& item) {
  return {string_or(item, "id"),      string_or(item, "container"),
          string_or(item, "source"),  string_or(item, "target"),
          string_or(item, "fabric"),  string_or(item, "outcome"),
          mib(item, "bytes_sent"),    fixed(number_or(item, "downtime_ms"), 0) + " ms",
          fixed(number_or(item, "total_ms"), 0) + " ms"};
}

const std::vector<std::string> kMigrationHead = {"MIGRATION", "CONTAINER", "FROM", "TO", "FABRIC",
                                                 "OUTCOME",   "SENT",      "DOWNTIME", "TOTAL"};

// Of all nodes that answer; `silent` names the others.
Result<json::array> all_under_way(ApiClient& api, std::string& silent) {
  TRY(const json::object answer, api.get("/v1/nodes"));
  CHECK_OK(get_array(answer, "nodes"));
  json::array all;
  for (const json::object* node : objects_of(answer, "nodes")) {
    if (!get_array(*node, "migrations")) silent += " " + string_or(*node, "name");
    for (const json::object* report : objects_of(*node, "migrations")) all.emplace_back(*report);
  }
  return all;
}

int write_trace(const json::object& report, const Options& options) {
  auto trace = trace_of(report);
  if (!trace) return tell(trace.error(), options);
  std::ofstream file(options.trace);
  file << json::serialize(*trace) << "\n" << std::flush;
  if (!file) return tell(Error(Errc::kSystem, "the trace could not be written to " + options.trace), options);
  if (options.as_json) {
    print_json({{"trace", options.trace}});
  } else {
    std::cout << options.trace << " written; Perfetto (ui.perfetto.dev) and chrome://tracing open it\n";
  }
  return kOk;
}

}  // namespace

int migrations(ApiClient& api, const Options& options) {
  if (options.name.empty()) {
    return show_list(api.get("/v1/migrations"), options, "migrations", kMigrationHead,
                     migration_row);
  }
  auto answer = api.get("/v1/migrations/" + options.name);
  if (!answer) return tell(answer.error(), options);
  if (!options.trace.empty()) return write_trace(*answer, options);
  print_json(*answer);
  return kOk;
}

int top(ApiClient& api, const Options& options) {
  const bool once = options.once || options.as_json || ::isatty(STDOUT_FILENO) != 1;
  for (;;) {
    std::string silent;
    auto all = all_under_way(api, silent);
    if (!all) return tell(all.error(), options);
    if (options.as_json) {
      print_json({{"migrations", std::move(*all)}});
      return kOk;
    }
    Table table(kProgressHead);
    for (const json::value& report : *all) table.add(progress_row(report.get_object()));
    std::string text = table.text();
    if (!silent.empty()) text += "these nodes do not answer:" + silent + "\n";
    std::cout << (once ? text : "\033[H\033[J" + fit_terminal(text, STDOUT_FILENO)) << std::flush;
    if (once) return kOk;
    std::this_thread::sleep_for(Milliseconds(500));
  }
}

}  // namespace lifeboat
