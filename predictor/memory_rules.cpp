#include "predictor/memory_rules.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>

namespace lifeboat::predictor {
namespace {

constexpr double kUncorrected = 0.9;
constexpr double kRate = 0.5;
constexpr double kRegions = 0.4;
constexpr double kStorm = 0.6;
constexpr double kRegionsLevel = 3;  // errors in fewer than this many reports prove no pattern

double hours(Duration duration) { return std::chrono::duration<double>(duration).count() / 3600; }

std::string number(double value) {
  char text[32];
  (void)std::snprintf(text, sizeof text, "%.0f", value);
  return text;
}

void remember(std::vector<std::string>& values, std::string_view value, std::size_t max) {
  if (value.empty() || std::find(values.begin(), values.end(), value) != values.end()) return;
  if (values.size() == max) values.erase(values.begin());
  values.emplace_back(value.substr(0, 64));
}

}  // namespace

MemoryRules::Part& MemoryRules::part(const Event& event, Time now) {
  for (Part& part : parts_) {
    if (part.kind == event.kind && part.location == event.location) return part;
  }
  if (parts_.size() == kPartsMax) {
    parts_.erase(std::min_element(parts_.begin(), parts_.end(), [](const Part& a, const Part& b) {
      return a.time < b.time;
    }));
  }
  parts_.push_back({event.location, event.kind, 0, now, {}, {}});
  return parts_.back();
}

std::optional<Finding> MemoryRules::add(const MemoryConfig& config, const Event& event, Time now) {
  const std::string where = event.location.empty() ? "memory" : event.location;
  if (!config.on) return std::nullopt;
  if (event.kind == EventKind::kUncorrectedMemory) {
    return Finding{kUncorrected, where + ": an uncorrectable memory error"};
  }
  const bool memory = event.kind == EventKind::kCorrectedMemory;
  const bool processor =
      event.kind == EventKind::kProcessor && event.severity <= Severity::kWarning;
  if (!memory && !processor) return std::nullopt;

  Part& part = this->part(event, now);
  const double elapsed = std::chrono::duration<double>(now - part.time).count();
  const double window = std::chrono::duration<double>(config.window).count();
  const double level = part.level * std::exp(-elapsed / window) + static_cast<double>(event.count);
  part.level = level;
  part.time = now;
  remember(part.rows, detail(event, "row"), kRegionsMax);
  remember(part.banks, detail(event, "bank"), kRegionsMax);

  const std::string span = " in " + number(hours(config.window)) + " h";
  if (processor) {
    if (level < config.processor_max) return std::nullopt;
    return Finding{kRate, where + ": " + number(level) + " corrected machine checks" + span +
                              " (limit " + number(config.processor_max) + ")"};
  }
  if (static_cast<double>(event.count) >= config.storm) {
    return Finding{kStorm, where + ": a storm of " + number(static_cast<double>(event.count)) +
                               " corrected memory errors"};
  }
  // A part that shows its defect in several rows or banks is worse than one weak cell.
  const auto regions_max = static_cast<std::size_t>(config.regions_max);
  const bool rows = part.rows.size() > regions_max;
  const bool banks = part.banks.size() > regions_max;
  const bool regions = (rows || banks) && level >= kRegionsLevel;
  const bool rate = level >= config.corrected_max;
  if (!rate && !regions) return std::nullopt;
  std::string why = where + ": " + number(level) + " corrected memory errors" + span;
  if (rate) why += " (limit " + number(config.corrected_max) + ")";
  if (regions) {
    why += ", in " + std::to_string(rows ? part.rows.size() : part.banks.size()) + " different " +
           (rows ? "rows" : "banks");
  }
  return Finding{1 - (rate ? 1 - kRate : 1) * (regions ? 1 - kRegions : 1), why};
}

json::array MemoryRules::save() const {
  json::array saved;
  for (const Part& part : parts_) {
    saved.push_back(json::object{{"location", part.location},
                                 {"kind", std::string(to_string(part.kind))},
                                 {"level", part.level},
                                 {"time", part.time.time_since_epoch().count()},
                                 {"rows", to_array(part.rows)},
                                 {"banks", to_array(part.banks)}});
  }
  return saved;
}

void MemoryRules::load(const json::array& saved) {
  const auto strings = [](const json::value& list) {
    return json::value_to<std::vector<std::string>>(list);
  };
  for (const json::value& item : saved) {
    const json::object& object = item.as_object();
    const auto kind = event_kind_from(object.at("kind").as_string());
    if (!kind) throw std::out_of_range(kind.error().message);
    parts_.push_back({object.at("location").as_string().c_str(), *kind,
                      object.at("level").to_number<double>(),
                      Time(Duration(object.at("time").as_int64())), strings(object.at("rows")),
                      strings(object.at("banks"))});
  }
}

}  // namespace lifeboat::predictor
