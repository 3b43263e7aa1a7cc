// `lifeboat migrations`: what moved.
#include <fstream>
#include <iostream>

#include "cli/cli.hpp"
#include "migration_trace.hpp"

namespace lifeboat {

namespace {

// What nobody here has seen the end of has no bytes and no times.
std::vector<std::string> migration_row(const json::object& item) {
  const auto if_known = [&item](const char* key, std::string text) { return item.contains(key) ? text : "-"; };
  return {string_or(item, "id"),
          string_or(item, "container"),
          string_or(item, "source"),
          string_or(item, "target"),
          string_or(item, "fabric"),
          string_or(item, "outcome"),
          if_known("bytes_sent", mib(item, "bytes_sent")),
          if_known("downtime_ms", fixed(number_or(item, "downtime_ms"), 0) + " ms"),
          if_known("total_ms", fixed(number_or(item, "total_ms"), 0) + " ms")};
}

const std::vector<std::string> kMigrationHead = {"MIGRATION", "CONTAINER", "FROM", "TO", "FABRIC",
                                                 "OUTCOME",   "SENT",      "DOWNTIME", "TOTAL"};

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
    return show_list(api.get(options.all ? "/v1/migrations?all=1" : "/v1/migrations"), options, "migrations", kMigrationHead,
                     migration_row);
  }
  auto answer = api.get("/v1/migrations/" + options.name);
  if (!answer) return tell(answer.error(), options);
  if (!options.trace.empty()) return write_trace(*answer, options);
  print_json(*answer);
  return kOk;
}

}  // namespace lifeboat
