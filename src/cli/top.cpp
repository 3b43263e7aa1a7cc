// `lifeboat top`: the cluster as it is now, as the page shows it.
#include <unistd.h>

#include <iostream>
#include <thread>

#include "base/asio.hpp"
#include "cli/cli.hpp"
#include "cli/progress.hpp"
#include "cluster_view.hpp"

namespace lifeboat {

namespace {

constexpr std::size_t kOverShown = 5;

std::string state_of(const json::object& node) {
  return string_or(node, "state", flag(node, "reachable") ? "up" : "no answer");
}

std::string names_of_containers(const json::object& node) {
  std::string names;
  for (const json::object* container : objects_of(node, "containers")) {
    const std::string state = string_or(*container, "state");
    names += (names.empty() ? "" : " ") + string_or(*container, "id");
    if (state != "running") names += "(" + state + ")";
  }
  return names.empty() ? "-" : names;
}

std::string nodes_text(const json::object& view) {
  Table table({"NODE", "STATE", "SLOTS FREE", "MEMORY FREE", "CONTAINERS", "REASON"});
  for (const json::object* node : objects_of(view, "nodes")) {
    const bool answers = flag(*node, "reachable");
    table.add({string_or(*node, "name"), state_of(*node), answers ? fixed(number_or(*node, "slots_free"), 0) : "-",
               answers ? mib(*node, "memory_free_bytes") : "-", names_of_containers(*node),
               answers ? string_or(*node, "reason") : string_or(*node, "error")});
  }
  return table.text();
}

// Of all nodes that answer.
json::array under_way(const json::object& view) {
  json::array all;
  for (const json::object* node : objects_of(view, "nodes")) {
    for (const json::object* report : objects_of(*node, "migrations")) all.emplace_back(*report);
  }
  return all;
}

std::string going_text(const json::array& reports) {
  Table table(kProgressHead);
  for (const json::value& report : reports) table.add(progress_row(report.get_object()));
  return table.text();
}

// The last that are over, the newest first.
std::string over_text(const json::object& view) {
  Table table({"OVER", "CONTAINER", "FROM", "TO", "OUTCOME", "DOWNTIME", "FREEZE", "DUMP", "TRANSFER", "RESTORE",
               "NETWORK", "RESUME"});
  const std::vector<const json::object*> all = objects_of(view, "migrations");
  std::size_t shown = 0;
  for (auto at = all.rbegin(); at != all.rend() && shown < kOverShown; ++at) {
    const json::object& report = **at;
    if (string_or(report, "outcome") == "running") continue;
    ++shown;
    std::vector<std::string> row{string_or(report, "id"),     string_or(report, "container"),
                                 string_or(report, "source"), string_or(report, "target"),
                                 string_or(report, "outcome"), fixed(number_or(report, "downtime_ms"), 0) + " ms"};
    if (auto parts = get_object(report, "downtime_parts_ms")) {
      for (const char* part : {"freeze", "dump", "transfer", "restore", "network", "resume"}) {
        row.push_back(fixed(number_or(**parts, part), 1));
      }
    }
    table.add(std::move(row));
  }
  return table.text();
}

}  // namespace

int top(ApiClient& api, const Options& options) {
  const bool once = options.once || options.as_json || ::isatty(STDOUT_FILENO) != 1;
  for (;;) {
    // Programs get what is new; those who watch share what was gathered a moment ago.
    const auto view = api.get(options.as_json ? "/v1/nodes" : "/v1/view");
    if (!view) return tell(view.error(), options);
    if (auto list = get_array(*view, "nodes"); !list) return tell(list.error(), options);
    json::array going = under_way(*view);
    if (options.as_json) {
      print_json({{"migrations", std::move(going)}});
      return kOk;
    }
    const std::string text = nodes_text(*view) + "\n" + going_text(going) + "\n" + over_text(*view);
    std::cout << (once ? text : "\033[H\033[J" + fit_terminal(text, STDOUT_FILENO)) << std::flush;
    if (once) return kOk;
    std::this_thread::sleep_for(Milliseconds(500));
  }
}

}  // namespace lifeboat
