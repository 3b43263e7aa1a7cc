// evacuation_forecast.hpp - how much one migration sends, and when. Part of the planner
// (evacuation_plan.hpp).
#pragma once

#include "evacuation_plan.hpp"

namespace lifeboat::evacuation {

struct Forecast {
  unsigned rounds = 0;
  double bytes_running = 0;  // before the freeze
  double bytes_frozen = 0;
  double bytes_after = 0;  // post-copy: while it runs at the target
  bool converges = false;  // the last pages fit in the downtime budget
};

// Of a container of `bytes` that writes `dirty` bytes per second, over a wire of `rate`.
//
// Pre-copy is a geometric series with the ratio dirty / rate: each round sends what was written
// during the one before (Clark et al., "Live Migration of Virtual Machines", 2005; in closed form
// Liu et al., "Performance and Energy Modeling for Live Migration of Virtual Machines", 2011). It
// ends when the rest fits in the downtime budget, or when another round would hardly leave less
// (Ibrahim et al., "Optimized Pre-Copy Live Migration for Memory Intensive Applications", 2011).
// That the copy of memory is linear in its size, and the rest nearly constant: Zhao and Figueiredo,
// "Experimental Study of Virtual Machine Migration in Support of Reservation of Cluster Resources",
// 2007.
[[nodiscard]] Forecast forecast(Mode mode, double bytes, double dirty, double rate,
                                const Settings& settings);

}  // namespace lifeboat::evacuation
