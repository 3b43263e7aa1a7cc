// probation.hpp - a node that has just been repaired fails again more often than one that has long been
// working: a Weibull hazard with a shape below 1 (Schroeder and Gibson 2006; fitted again to LANL's logs:
// 0.46 to 0.66 for its clusters).
#pragma once

#include <cmath>

#include "predictor/config.hpp"

namespace lifeboat::predictor {

// P(fails within `horizon` | has worked for `age` since the repair).
[[nodiscard]] inline double probation_risk(const ProbationConfig& config, Duration age,
                                           Duration horizon) {
  const auto hazard = [&](Duration t) {
    return std::pow(std::chrono::duration<double>(t) / std::chrono::duration<double>(config.scale),
                    config.shape);
  };
  return 1 - std::exp(hazard(age) - hazard(age + horizon));
}

}  // namespace lifeboat::predictor
