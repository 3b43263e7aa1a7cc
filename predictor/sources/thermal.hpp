// thermal.hpp - heat: thermal zones and sensors that come near their limits, and processors that
// were slowed down because of it.
//
// /sys/class/thermal/thermal_zoneN/{type,temp,trip_point_K_{type,temp}} (hot and critical trips),
// /sys/class/hwmon/hwmonN/temp*_{input,crit}, /sys/devices/system/cpu/cpuN/thermal_throttle/
// {core,package}_throttle_count. Temperatures in thousandths of a degree Celsius; readings that no
// machine survives (or that say "not connected") are garbage and are ignored.
#pragma once

#include <chrono>
#include <map>

#include "predictor/source.hpp"
#include "predictor/sources/counters.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

struct ThermalOptions {
  std::chrono::milliseconds interval{10'000};
  int margin = 5;  // degrees below a limit from which on it is told
};

class ThermalSource final : public Source {
 public:
  // What stays too hot is told again.
  static constexpr Duration kRepeat = std::chrono::minutes(5);

  ThermalSource(Place place, ThermalOptions options)
      : place_(std::move(place)), options_(options) {}

  [[nodiscard]] std::string name() const override { return "thermal"; }
  // kNotFound: no zone, sensor or throttle count.
  Result<std::vector<Event>> poll(Time now) override;
  [[nodiscard]] Duration interval() const override { return options_.interval; }
  [[nodiscard]] std::string save() const override { return counters_.save(place_.boot_id()); }
  void restore(const std::string& saved) override { counters_.restore(saved, place_.boot_id()); }

 private:
  void read_zones(Time now, std::vector<Event>& events);
  void read_sensors(Time now, std::vector<Event>& events);
  void read_throttles(Time now, std::vector<Event>& events);
  // In thousandths of a degree, as sysfs has them; `limit` empty: there is none.
  void judge(const std::string& where, const std::string& value, const std::string& limit, Time now,
             std::vector<Event>& events);

  Place place_;
  ThermalOptions options_;
  Counters counters_;
  std::map<std::string, Time> told_;  // places that are too hot, and when that was last told
  bool found_ = false;                // anything at all, at this poll
};

}  // namespace lifeboat::predictor
