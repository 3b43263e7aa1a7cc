// `lifeboat events`: what happened, one line each.
#include <chrono>
#include <iostream>
#include <set>
#include <thread>

#include "base/yaml_kinds.hpp"
#include "cli/cli.hpp"
#include "report.hpp"

namespace lifeboat {

namespace {

using Micros = std::chrono::microseconds;

std::string line_of(const json::object& event) {
  const Micros t(static_cast<std::int64_t>(number_or(event, "t")));
  std::string text = timestamp(std::chrono::sys_time<Micros>(t)) + "  " + string_or(event, "node") + "  " +
                     string_or(event, "event") + "  ";
  if (event.contains("state")) {
    text += string_or(event, "of") + " is " + string_or(event, "state") + " (" + string_or(event, "change") + ")";
  } else {
    text += string_or(event, "container") + ": " + string_or(event, "source") + " -> " +
            string_or(event, "target") + " (" + string_or(event, "migration") + ")";
  }
  const std::string reason = string_or(event, "reason");
  return reason.empty() ? text : text + ": " + reason;
}

// Prints those that are not in `seen`, which becomes the events of this answer. The time of the last one.
std::int64_t show(const json::array& events, bool as_json, std::set<std::string>& seen) {
  std::set<std::string> now;
  std::int64_t last = 0;
  for (const json::value& item : events) {
    const std::string text = json::serialize(item);
    if (!seen.contains(text)) std::cout << (as_json ? text : line_of(item.get_object())) << "\n";
    now.insert(text);
    last = std::max(last, static_cast<std::int64_t>(number_or(item.get_object(), "t")));
  }
  std::cout << std::flush;
  seen = std::move(now);
  return last;
}

}  // namespace

int events(ApiClient& api, const Options& options) {
  constexpr std::chrono::hours kMax{24 * 366};
  constexpr Micros kSkew = std::chrono::minutes(1);  // of the nodes' clocks, and of what is told late
  const auto ago = yaml::Duration{std::chrono::milliseconds(0), kMax}.parse(options.since);
  if (!ago) {
    std::cerr << "lifeboat: --since takes a duration such as 30min or 24h\n";
    return kUsage;
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  std::int64_t since = std::chrono::duration_cast<Micros>(now - *ago).count();
  std::set<std::string> seen;
  for (bool begun = false;; begun = true) {
    auto answer = api.get("/v1/events?since=" + std::to_string(since) + (options.all ? "&all=1" : ""));
    auto list = answer ? get_array(*answer, "events") : tl::unexpected<Error>(answer.error());
    // One that was followed so far is waited for.
    if (!list && !begun) return tell(list.error(), options);
    if (list) {
      const std::int64_t last = show(**list, options.as_json, seen);
      since = std::max(since, last - kSkew.count());
    }
    auto silent = answer ? get_strings(*answer, "silent", 1024) : std::vector<std::string>();
    for (const std::string& node : silent.value_or(std::vector<std::string>())) {
      if (!begun) std::cerr << "lifeboat: node " << node << " does not answer\n";
    }
    if (!options.follow || !std::cout) return kOk;
    std::this_thread::sleep_for(std::chrono::seconds(1));
  }
}

}  // namespace lifeboat
