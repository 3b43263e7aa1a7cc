// own_stall.hpp - how long this daemon itself stood still: stopped, or without a processor.
//
// Who waits for others by the clock alone counts its own stall as their silence: all of them would be lost at
// the moment it goes on, with their answers lying unread in its sockets.
#pragma once

#include <algorithm>

#include "base/asio.hpp"

namespace lifeboat {

class OwnStall {
 public:
  using TimePoint = SteadyClock::time_point;

  // A clock that stands still while this daemon does, but for at most two kTick of it. Needs watch() to run.
  [[nodiscard]] TimePoint now() const { return now_at(SteadyClock::now()); }
  [[nodiscard]] TimePoint now_at(TimePoint time) const {
    return time - stalled_ - std::max(time - ticked_ - 2 * kTick, SteadyClock::duration::zero());
  }
  // This daemon has run at `time`.
  void tick(TimePoint time) {
    stalled_ += std::max(time - ticked_ - 2 * kTick, SteadyClock::duration::zero());
    ticked_ = time;
  }
  // Ticks, until the program ends.
  awaitable<void> watch() {
    for (;;) {
      tick(SteadyClock::now());
      co_await sleep_for(kTick);
    }
  }

  static constexpr Milliseconds kTick{250};

 private:
  TimePoint ticked_ = SteadyClock::now();
  SteadyClock::duration stalled_{0};
};

}  // namespace lifeboat
