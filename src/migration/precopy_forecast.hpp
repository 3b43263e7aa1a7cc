// precopy_forecast.hpp - what the rounds of a migration will come to, from what a container wrote in one
// second: the control law itself decides, of rounds that are worked out instead of measured. Pure.
#pragma once

#include <cstdint>

#include "migration/precopy_control.hpp"

namespace lifeboat {

// Different pages written since one moment, counted twice.
struct WriteSample {
  double early_s = 0;
  std::uint64_t early_pages = 0;
  double late_s = 0;
  std::uint64_t late_pages = 0;
};

struct PrecopyForecast {
  unsigned rounds = 0;
  double rounds_s = 0;          // until the freeze
  std::uint64_t bytes = 0;      // sent until then
  PrecopyDecision last;         // its expected_downtime_s is what is left for the freeze
};

// Writes are taken for random ones within a part of the memory that the two counts tell: the smaller that part,
// the fewer new pages there are in the later count. limits.rate_bytes_per_s is what the wire carries.
[[nodiscard]] PrecopyForecast forecast_rounds(const WriteSample& sample, std::uint64_t memory_bytes,
                                              const PrecopyLimits& limits);

}  // namespace lifeboat
