// `lifeboat nodes` and `lifeboat node ...`: how nodes are, and what an operator says of them.
#include <iostream>

#include "cli/cli.hpp"
#include "cluster_view.hpp"

namespace lifeboat {

namespace {

bool is_reachable(const json::object& node) { return flag(node, "reachable"); }

// "2026-01-31 12:00:00" of a timestamp.
std::string short_time(const json::object& node, const char* key) {
  constexpr std::size_t kSeconds = 19;
  std::string text = string_or(node, key, "-").substr(0, kSeconds);
  if (text.empty()) return "-";
  if (const auto at = text.find('T'); at != std::string::npos) text[at] = ' ';
  return text;
}

std::string lead_text(const json::object& node) {
  const double seconds = number_or(node, "lead_s");
  if (seconds <= 0) return "-";
  if (seconds < 600) return fixed(seconds, 0) + " s";
  return seconds < 36'000 ? fixed(seconds / 60, 0) + " min" : fixed(seconds / 3600, 1) + " h";
}

std::string reason_text(const json::object& node) {
  const std::string cause = string_or(node, "cause");
  return cause.empty() ? "-" : cause + ": " + string_or(node, "reason");
}

std::string cut(std::string text, std::size_t width) {
  if (text.size() > width) text.replace(width - 3, std::string::npos, "...");
  return text;
}

const std::vector<std::string> kHead = {"NODE",       "ROLE",       "STATE",       "REASON", "SINCE",
                                        "LEAD",       "CONTAINERS", "SLOTS FREE",  "MEMORY FREE", "CRIU"};

std::vector<std::string> row(const json::object& node) {
  constexpr std::size_t kReasonWidth = 44;
  const bool reachable = is_reachable(node);
  std::vector<std::string> cells{string_or(node, "name"),
                                 string_or(node, "role"),
                                 string_or(node, "state", reachable ? "up" : "unreachable"),
                                 cut(reason_text(node), kReasonWidth),
                                 short_time(node, "since"),
                                 lead_text(node)};
  if (!reachable) return cells;
  auto list = get_array(node, "containers");
  cells.insert(cells.end(), {std::to_string(list ? (*list)->size() : 0),
                             fixed(number_or(node, "slots_free"), 0), mib(node, "memory_free_bytes"),
                             string_or(node, "criu", "-")});
  return cells;
}

// How the node gets its containers away, if it does; what cannot leave is never left out.
void show_evacuation(const json::object& node) {
  auto evacuation = get_object(node, "evacuation");
  if (!evacuation) return;
  const std::string phase = string_or(**evacuation, "phase");
  if (phase == "idle" || phase.empty()) return;
  const std::string name = string_or(node, "name");
  std::cout << name << ": " << phase << (string_or(**evacuation, "text").empty() ? "" : ": ")
            << string_or(**evacuation, "text") << "; " << fixed(number_or(**evacuation, "moved"), 0)
            << " moved, " << fixed(number_or(**evacuation, "left"), 0) << " left";
  if (!string_or(**evacuation, "starts_at").empty()) {
    std::cout << ", starts at " << short_time(**evacuation, "starts_at");
  }
  std::cout << "\n";
  for (const json::object* one : objects_of(**evacuation, "stuck")) {
    std::cout << "  " << string_or(*one, "container") << " cannot leave (" << fixed(number_or(*one, "tries"), 0)
              << " tries, again in " << fixed(number_or(*one, "again_in_s"), 0)
              << " s): " << string_or(*one, "reason") << "\n";
  }
}

void show_evidence(const json::object& node) {
  for (const json::object* reason : objects_of(node, "reasons")) {
    std::cout << string_or(node, "name") << ": " << reason_text(*reason);
    if (number_or(*reason, "risk") > 0) std::cout << " (risk " << fixed(number_or(*reason, "risk"), 2) << ")";
    std::cout << "\n";
    auto evidence = get_array(*reason, "evidence");
    if (!evidence) continue;
    for (const json::value& line : **evidence) {
      if (line.is_string()) std::cout << "  " << std::string(line.get_string()) << "\n";
    }
  }
}

void show(const std::vector<json::object>& nodes, bool evidence) {
  Table table(kHead);
  for (const json::object& node : nodes) table.add(row(node));
  std::cout << table.text();
  for (const json::object& node : nodes) {
    if (evidence) show_evidence(node);
    show_evacuation(node);
  }
}

int tell_state(const Result<json::object>& answer, const Options& options) {
  if (!answer) return tell(answer.error(), options);
  if (options.as_json) {
    print_json(*answer);
    return kOk;
  }
  std::cout << options.name << " is " << string_or(*answer, "state")
            << (string_or(*answer, "cause").empty() ? "" : " (" + reason_text(*answer) + ")") << "\n";
  return kOk;
}

}  // namespace

int nodes(ApiClient& api, const Options& options) {
  auto answer = api.get(options.name.empty() ? "/v1/nodes" : "/v1/nodes/" + options.name);
  if (!answer) return tell(answer.error(), options);
  if (options.as_json) {
    print_json(*answer);
    return kOk;
  }
  if (!options.name.empty()) {
    show({*answer}, true);
    return kOk;
  }
  if (auto list = get_array(*answer, "nodes"); !list) return tell(list.error(), options);
  std::vector<json::object> all;
  for (const json::object* node : objects_of(*answer, "nodes")) all.push_back(*node);
  show(all, options.verbose);
  return kOk;
}

int node_degrade(ApiClient& api, const Options& options) {
  return tell_state(api.post("/v1/nodes/" + options.name + "/degrade", {{"reason", options.reason}}),
                    options);
}

int node_restore(ApiClient& api, const Options& options) {
  json::object body;
  if (!options.reason.empty()) body["reason"] = options.reason;
  if (options.shutdown) body["shutdown"] = true;
  return tell_state(api.post("/v1/nodes/" + options.name + "/restore", body), options);
}

}  // namespace lifeboat
