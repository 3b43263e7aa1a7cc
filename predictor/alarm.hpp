// alarm.hpp - from a risk that goes up and down to a state that does not flutter: two thresholds and a
// time to hold.
#pragma once

#include <algorithm>

#include "predictor/event.hpp"

namespace lifeboat::predictor {

struct AlarmPolicy {
  double on = 0.3;                         // risk that raises it
  double off = 0.1;                        // at or above this it stays; at most `on`
  Duration hold = std::chrono::hours(1);   // it stays for so long after the last such risk
  bool after_repair = false;               // a repair raises it, whatever the risk
};

class Alarm {
 public:
  // The risk is `risk` from `now` on; times must not go back.
  void update(const AlarmPolicy& policy, Time now, double risk) {
    if (on_ && now >= until_) on_ = false;
    if (!on_ && risk >= policy.on) {
      on_ = true;
      since_ = now;
      until_ = now + policy.hold;
    } else if (on_ && risk >= policy.off) {
      until_ = now + policy.hold;
    }
  }
  void clear() { on_ = false; }
  // What raised it was taken back: nothing to hold it for.
  void release(Time now) { until_ = std::min(until_, now); }
  // Continues one that was saved.
  void restore(bool on, Time since, Time until) {
    on_ = on;
    since_ = since;
    until_ = until;
  }

  [[nodiscard]] bool on() const { return on_; }
  [[nodiscard]] Time since() const { return since_; }
  [[nodiscard]] Time until() const { return until_; }  // unless the risk is renewed

 private:
  bool on_ = false;
  Time since_{};
  Time until_{};
};

}  // namespace lifeboat::predictor
