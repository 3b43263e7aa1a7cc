// `lifeboat evacuate`: a node is emptied by its daemon; this shows how it goes.
#include <chrono>
#include <ctime>
#include <iostream>
#include <optional>
#include <thread>

#include "base/asio.hpp"
#include "base/yaml_kinds.hpp"
#include "cli/cli.hpp"
#include "cli/progress.hpp"
#include "cluster_view.hpp"

namespace lifeboat {

namespace {

using Clock = std::chrono::system_clock;

// The next time that the clock shows HH:MM.
Result<Clock::time_point> time_of_day(const std::string& text) {
  tm parsed{};
  const char* end = ::strptime(text.c_str(), "%H:%M", &parsed);
  if (end == nullptr || *end != '\0') {
    return fail(Errc::kInvalid, "--by: expected a time of day such as 14:00, got '" + text + "'");
  }
  const std::time_t now = Clock::to_time_t(Clock::now());
  tm then{};
  ::localtime_r(&now, &then);
  then.tm_hour = parsed.tm_hour;
  then.tm_min = parsed.tm_min;
  then.tm_sec = 0;
  then.tm_isdst = -1;
  std::time_t at = std::mktime(&then);
  if (at <= now) {
    ++then.tm_mday;
    at = std::mktime(&then);
  }
  return Clock::from_time_t(at);
}

Result<std::optional<Clock::time_point>> end_of_window(const Options& options) {
  if (!options.by.empty()) {
    TRY(const Clock::time_point at, time_of_day(options.by));
    return at;
  }
  if (options.within.empty()) return std::nullopt;
  const yaml::Duration kind{std::chrono::minutes(1), std::chrono::hours(24 * 7)};
  const auto duration = kind.parse(options.within);
  if (!duration) {
    return fail(Errc::kInvalid, "--within: expected " + kind.expected() + ", got '" + options.within + "'");
  }
  return Clock::now() + *duration;
}

// All its migrations, in the order in which they began.
std::vector<json::object> migrations_of(const json::object& evacuation) {
  std::vector<json::object> reports;
  for (const json::object* report : objects_of(evacuation, "migrations")) reports.push_back(*report);
  return reports;
}

int tell_end(const json::object& node, const json::object& evacuation, const Options& options) {
  const bool empty = string_or(evacuation, "phase") == "empty";
  if (options.as_json) {
    print_json(node);
    return empty ? kOk : kFailed;
  }
  for (const json::object& report : migrations_of(evacuation)) {
    if (string_or(report, "outcome") != "committed") continue;
    std::cout << string_or(report, "container") << " runs on " << string_or(report, "target")
              << "; downtime " << fixed(number_or(report, "downtime_ms"), 0) << " ms, total "
              << fixed(number_or(report, "total_ms"), 0) << " ms\n";
  }
  if (empty) {
    std::cout << options.name << " is empty\n";
    return kOk;
  }
  for (const json::object* stuck : objects_of(evacuation, "stuck")) {
    std::cerr << "lifeboat: " << string_or(*stuck, "container")
              << " cannot leave: " << string_or(*stuck, "reason") << "\n";
  }
  std::cerr << "lifeboat: " << options.name << " is not empty ("
            << string_or(evacuation, "phase") << "); it goes on trying until it is, or restored; see: "
            << "lifeboat nodes " << options.name << "\n";
  return kFailed;
}

// Until it is empty, or, but for a shutdown, can do no more for now.
int follow(ApiClient& api, const Options& options) {
  constexpr Milliseconds kLook{100};
  Screen screen(options.as_json);
  Patience patience;
  for (;;) {
    auto node = api.get("/v1/nodes/" + options.name);
    auto evacuation = node ? get_object(*node, "evacuation") : tl::unexpected<Error>(node.error());
    if (!evacuation) {
      const Error error = node ? Error(Errc::kUnavailable, "node " + options.name + " does not answer any more")
                               : node.error();
      if (patience.allows(error)) {
        std::this_thread::sleep_for(kLook);
        continue;
      }
      screen.end();
      return tell(error, options);
    }
    patience.answered();
    const std::string phase = string_or(**evacuation, "phase");
    screen.show(migrations_of(**evacuation));
    const bool stays = phase == "stuck" && !options.shutdown;
    if (phase == "empty" || stays || string_or(*node, "state") == "up") {
      screen.end();
      return tell_end(*node, **evacuation, options);
    }
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace

int evacuate(ApiClient& api, const Options& options) {
  auto by = end_of_window(options);
  if (!by) {
    std::cerr << "lifeboat: " << by.error().message << "\n";
    return kUsage;
  }
  json::object body{{"dry_run", options.dry_run}, {"shutdown", options.shutdown}};
  if (*by) {
    body["by"] =
        std::chrono::duration_cast<std::chrono::microseconds>((*by)->time_since_epoch()).count();
  }
  auto answer = api.post("/v1/nodes/" + options.name + "/evacuate", body);
  if (!answer) return tell(answer.error(), options);
  const bool returns = options.dry_run || options.detach || by->has_value();
  if (!returns) return follow(api, options);
  if (options.as_json) {
    print_json(*answer);
  } else {
    std::cout << string_or(*answer, "text");
    if (!options.dry_run) {
      std::cout << options.name << " is " << string_or(*answer, "reason")
                << "; how it goes: lifeboat nodes " << options.name << "\n";
    }
  }
  return kOk;
}

}  // namespace lifeboat
