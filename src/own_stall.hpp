// own_stall.hpp - how long this daemon itself stood still: stopped, or without a processor.
//
// Who waits for others by the clock alone counts its own stall as their silence: all of them would be lost at
// the moment it goes on, with their answers lying unread in its sockets.
#pragma once

#include <algorithm>
#include <mutex>
#include <string>

#include "base/asio.hpp"
#include "base/log.hpp"

namespace lifeboat {

class OwnStall {
 public:
  using TimePoint = SteadyClock::time_point;

  // A clock that stands still while this daemon does, but for at most two kTick of it. Needs watch() to run. Any
  // thread may ask.
  [[nodiscard]] TimePoint now() const {
    const std::lock_guard lock(mutex_);  // first: a time read before a stall that is counted since would be too early
    return at(SteadyClock::now());
  }
  [[nodiscard]] TimePoint now_at(TimePoint time) const {
    const std::lock_guard lock(mutex_);
    return at(time);
  }
  // This daemon has run at `time`. How long it stood still before.
  SteadyClock::duration tick(TimePoint time) {
    const std::lock_guard lock(mutex_);
    const auto stall = beyond_ticks(time);
    stalled_ += stall;
    ticked_ = time;
    return stall;
  }
  // Ticks, until the program ends; says so when it stood still for a second or more.
  awaitable<void> watch() {
    for (;;) {
      if (const auto stall = tick(SteadyClock::now()); stall > std::chrono::seconds(1)) {
        log::warn("this daemon stood still: stopped, without a processor, or held up",
                  {{"ms", std::to_string(std::chrono::duration_cast<Milliseconds>(stall).count())}});
      }
      co_await sleep_for(kTick);
    }
  }

  static constexpr Milliseconds kTick{250};

 private:
  [[nodiscard]] TimePoint at(TimePoint time) const { return time - stalled_ - beyond_ticks(time); }
  [[nodiscard]] SteadyClock::duration beyond_ticks(TimePoint time) const {
    return std::max(time - ticked_ - 2 * kTick, SteadyClock::duration::zero());
  }

  mutable std::mutex mutex_;
  TimePoint ticked_ = SteadyClock::now();
  SteadyClock::duration stalled_{0};
};

}  // namespace lifeboat
