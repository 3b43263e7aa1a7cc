#include "predictor/sources/pressure.hpp"

#include <array>
#include <cstdio>

namespace lifeboat::predictor {

std::optional<double> pressure_share(std::string_view text, std::string_view line) {
  for (const std::string_view candidate : split(text, '\n')) {
    if (!candidate.starts_with(line)) continue;
    for (const std::string_view word : split(candidate, ' ')) {
      if (!word.starts_with("avg60=")) continue;
      const auto share = real_number(word.substr(6));
      return share && *share >= 0 && *share <= 100 ? share : std::nullopt;
    }
  }
  return std::nullopt;
}

Result<std::vector<Event>> PressureSource::poll(Time now) {
  struct Resource {
    const char* name;
    const char* line;
    int limit;
  };
  const std::array<Resource, 3> resources{{{"memory", "full ", options_.memory},
                                           {"io", "full ", options_.io},
                                           {"cpu", "some ", options_.cpu}}};
  if (!is_directory(place_.path("/proc/pressure"))) {
    return fail(Errc::kNotFound, "there is no " + place_.path("/proc/pressure"));
  }
  std::vector<Event> events;
  std::string problem;
  for (const Resource& resource : resources) {
    if (resource.limit == 0) continue;
    const std::string path = place_.path(std::string("/proc/pressure/") + resource.name);
    const auto share = pressure_share(read_value(path), resource.line);
    if (!share) {
      problem = path + " holds no pressure";
      continue;
    }
    if (*share < resource.limit) {
      told_.erase(resource.name);
      continue;
    }
    const auto [at, is_new] = told_.try_emplace(resource.name, now);
    if (!is_new && std::chrono::abs(now - at->second) < kRepeat) continue;
    at->second = now;
    char percent[32];
    std::snprintf(percent, sizeof percent, "%.1f", *share);
    Event event;
    event.time = now;
    event.node = place_.node;
    event.source = name();
    event.kind = EventKind::kPressure;
    event.severity = Severity::kWarning;
    event.location = resource.name;
    event.text =
        std::string(resource.name) + " pressure: tasks waited " + percent + " % of a minute";
    event.details = {{"percent", percent}};
    events.push_back(std::move(event));
  }
  if (!problem.empty() && events.empty()) return fail(Errc::kProtocol, problem);
  return events;
}

}  // namespace lifeboat::predictor
