// `lifeboat resolve`: for a person, when a migration is in doubt.
#include <unistd.h>

#include <iostream>

#include "cli/cli.hpp"
#include "cluster_view.hpp"

namespace lifeboat {

namespace {

// One end, in a line: what it has and does, or why it does not say.
std::string end_text(const json::object& end) {
  if (const std::string error = string_or(end, "error"); !error.empty()) return "does not say: " + error;
  const std::string state = string_or(end, "state");
  std::string text = "node " + string_or(end, "node") + ": ";
  text +=
      state.empty() ? "no container of it" : "container " + string_or(end, "container") + " is " + state;
  if (const std::string doing = string_or(end, "deciding"); !doing.empty()) text += " (" + doing + ")";
  const auto history = objects_of(end, "history");
  if (history.empty()) return text;
  const json::object& last = *history.back();
  text += "; last in its journal: " + string_or(last, "phase");
  if (const std::string reason = string_or(last, "reason"); !reason.empty()) text += ", " + reason;
  return text;
}

std::string record_text(const json::object& record) {
  if (const std::string error = string_or(record, "error"); !error.empty()) return "does not say: " + error;
  std::string text = "container " + string_or(record, "container") + " belongs to node " +
                     string_or(record, "owner") + ", epoch " + fixed(number_or(record, "epoch"), 0);
  if (auto migration = get_object(record, "migration")) {
    text += "; migration " + string_or(**migration, "id") + " to " + string_or(**migration, "target") +
            " is " + string_or(**migration, "state");
  }
  return text;
}

void show(const json::object& known) {
  const json::object nothing{{"error", "it is not known which container it is about"}};
  const auto part = [&](const char* key) {
    auto object = get_object(known, key);
    return object ? **object : nothing;
  };
  std::cout << "source    " << end_text(part("source")) << "\n"
            << "target    " << end_text(part("target")) << "\n"
            << "registry  " << record_text(part("registry")) << "\n";
}

bool confirmed(const std::string& id, const std::string& side) {
  if (::isatty(STDIN_FILENO) != 1) {
    std::cerr << "lifeboat: to decide without a terminal, say --yes\n";
    return false;
  }
  std::cout << "If the container runs at the other end after all, there are two of it from now on.\n"
            << "Migration " << id << ": it runs at the " << side
            << ", is that so? Type yes: " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "yes";
}

}  // namespace

int resolve(ApiClient& api, const Options& options) {
  const std::string path = "/v1/migrations/" + options.name + "/resolve";
  json::object body;
  if (!options.to.empty()) body["target"] = options.to;
  auto known = api.post(path, body);
  if (!known) return tell(known.error(), options);
  const std::string side = options.at_source ? "source" : options.at_target ? "target" : "";
  if (side.empty()) {
    if (options.as_json) {
      print_json(*known);
    } else {
      show(*known);
    }
    return kOk;
  }
  if (!options.as_json) show(*known);
  if (!options.yes && !confirmed(options.name, side)) return kFailed;
  body["side"] = side;
  auto decided = api.post(path, body);
  if (!decided) return tell(decided.error(), options);
  if (options.as_json) {
    print_json(*decided);
  } else {
    std::cout << "migration " << options.name << ": the container runs at the " << side << "\n";
  }
  return kOk;
}

}  // namespace lifeboat
