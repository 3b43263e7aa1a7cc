#include "predictor/sources/thermal.hpp"

#include <algorithm>
#include <set>

namespace lifeboat::predictor {
namespace {

// A plausible temperature in degrees; nothing for garbage.
std::optional<double> degrees(const std::string& thousandths) {
  const auto value = real_number(thousandths);
  if (!value || *value < -60'000 || *value > 200'000) return std::nullopt;
  return *value / 1000;
}

std::string shown(double value) { return std::to_string(static_cast<int>(value)) + " C"; }

}  // namespace

void ThermalSource::judge(const std::string& where, const std::string& value,
                          const std::string& limit, Time now, std::vector<Event>& events) {
  const auto is = degrees(value);
  const auto allowed = degrees(limit);
  if (!is || !allowed || *allowed <= 0) return;
  if (*is < *allowed - options_.margin) {
    told_.erase(where);
    return;
  }
  const auto [at, is_new] = told_.try_emplace(where, now);
  if (!is_new && std::chrono::abs(now - at->second) < kRepeat) return;
  at->second = now;
  Event event;
  event.time = now;
  event.node = place_.node;
  event.source = name();
  event.kind = EventKind::kTemperature;
  event.severity = *is >= *allowed ? Severity::kCritical : Severity::kWarning;
  event.location = clean(where);
  event.text = event.location + " is at " + shown(*is) + ", its limit is " + shown(*allowed);
  event.details = {{"celsius", std::to_string(static_cast<int>(*is))}};
  events.push_back(std::move(event));
}

void ThermalSource::read_zones(Time now, std::vector<Event>& events) {
  const std::string top = place_.path("/sys/class/thermal");
  for (const std::string& zone : list_directory(top)) {
    if (!zone.starts_with("thermal_zone")) continue;
    found_ = true;
    const std::string directory = top + "/" + zone + "/";
    std::optional<std::uint64_t> lowest;
    for (int trip = 0; trip < 16; ++trip) {
      const std::string file = directory + "trip_point_" + std::to_string(trip);
      const std::string type = read_value(file + "_type");
      const auto limit = whole_number(read_value(file + "_temp"));
      if ((type == "hot" || type == "critical") && limit && *limit > 0) {
        lowest = std::min(lowest.value_or(*limit), *limit);
      }
    }
    if (!lowest) continue;
    judge(zone + "/" + read_value(directory + "type"), read_value(directory + "temp"),
          std::to_string(*lowest), now, events);
  }
}

void ThermalSource::read_sensors(Time now, std::vector<Event>& events) {
  const std::string top = place_.path("/sys/class/hwmon");
  for (const std::string& chip : list_directory(top)) {
    const std::string directory = top + "/" + chip + "/";
    const std::string chip_name = read_value(directory + "name");
    for (const std::string& file : list_directory(directory)) {
      if (!file.starts_with("temp") || !file.ends_with("_input")) continue;
      found_ = true;
      const std::string sensor = file.substr(0, file.size() - 6);
      judge(chip + "/" + chip_name + "/" + sensor, read_value(directory + file),
            read_value(directory + sensor + "_crit"), now, events);
    }
  }
}

void ThermalSource::read_throttles(Time now, std::vector<Event>& events) {
  const std::string top = place_.path("/sys/devices/system/cpu");
  std::set<std::string> packages;
  for (const std::string& cpu : list_directory(top)) {
    if (!cpu.starts_with("cpu") || !whole_number(cpu.substr(3))) continue;
    const std::string directory = top + "/" + cpu;
    const std::string package = read_value(directory + "/topology/physical_package_id");
    for (const std::string what : {"core", "package"}) {
      const auto value = read_number(directory + "/thermal_throttle/" + what + "_throttle_count");
      if (!value) continue;
      found_ = true;
      // Every processor of a package shows the package's count.
      if (what == "package" && !package.empty() && !packages.insert(package).second) continue;
      const std::uint64_t count = counters_.grown(cpu + "/" + what, *value);
      if (count == 0) continue;
      Event event;
      event.time = now;
      event.node = place_.node;
      event.source = name();
      event.kind = EventKind::kTemperature;
      event.severity = Severity::kWarning;
      event.location = cpu;
      event.count = count;
      event.text = cpu + " was slowed down for heat of its " + what + " " + std::to_string(count) +
                   " times";
      events.push_back(std::move(event));
    }
  }
}

Result<std::vector<Event>> ThermalSource::poll(Time now) {
  std::vector<Event> events;
  found_ = false;
  read_zones(now, events);
  read_sensors(now, events);
  read_throttles(now, events);
  if (!found_) return fail(Errc::kNotFound, "no thermal zone, sensor or throttle count");
  return events;
}

}  // namespace lifeboat::predictor
