// pressure.hpp - tasks that wait for memory, I/O or processors: the kernel's pressure stall
// information, /proc/pressure/{memory,io,cpu}. Of memory and io the share of time in which nobody
// could go on ("full") counts, of processors that in which somebody had to wait ("some"), all over
// a minute.
#pragma once

#include <chrono>
#include <map>
#include <optional>

#include "predictor/source.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

struct PressureOptions {
  std::chrono::milliseconds interval{10'000};
  // Percent of the time from which on it is told; 0: never.
  int memory = 20;
  int io = 60;
  int cpu = 0;
};

// "avg60" of the line that begins with `line`; nothing if it is not there or not 0 to 100.
[[nodiscard]] std::optional<double> pressure_share(std::string_view text, std::string_view line);

class PressureSource final : public Source {
 public:
  // Pressure that stays is told again.
  static constexpr Duration kRepeat = std::chrono::minutes(1);

  PressureSource(Place place, PressureOptions options)
      : place_(std::move(place)), options_(options) {}

  [[nodiscard]] std::string name() const override { return "pressure"; }
  // kNotFound: a kernel without it, or started with psi=0.
  Result<std::vector<Event>> poll(Time now) override;
  [[nodiscard]] Duration interval() const override { return options_.interval; }

 private:
  Place place_;
  PressureOptions options_;
  std::map<std::string, Time> told_;  // what is under pressure, and when that was last told
};

}  // namespace lifeboat::predictor
