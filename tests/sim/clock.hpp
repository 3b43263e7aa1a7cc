// clock.hpp - the clock of a simulation, in place of the machine's (base/asio.hpp).
#pragma once

#include <chrono>

namespace lifeboat {

struct SteadyClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<SteadyClock>;
  static constexpr bool is_steady = true;
  static time_point now() noexcept;  // of the simulation that this thread runs
};

}  // namespace lifeboat
