// score.hpp - how good the alarms of a policy were.
//
// An episode is a run of overlapping alarms of one unit between two failures. It is right if the unit's next
// failure starts within it and at least `lead_min` after its start. precision = right / episodes, recall =
// right / failures, F1 their harmonic mean; lift = recall / share of the time degraded (alarms at random:
// 1); lead = failure - start of the episode. Episodes that are still open at the end are not counted: their
// outcome is not known. An episode that is overtaken within `lead_min` counts as wrong, its failure as
// missed.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "predictor/alarm.hpp"
#include "predictor/evaluate/trace.hpp"

namespace lifeboat::predictor {

struct Window {
  Time begin{};
  Time end{};
};

struct Score {
  double failures = 0;
  double right = 0;
  double wrong = 0;
  double late = 0;   // of the wrong ones: too late
  double beyond = 0; // of the right ones: the failure came more than the horizon after the start
  double unit_seconds = 0;      // in service
  double degraded_seconds = 0;  // of these
  std::vector<double> leads;    // seconds
  std::map<std::string, std::pair<double, double>> causes;  // class -> right, failures

  [[nodiscard]] double precision() const { return ratio(right, right + wrong); }
  [[nodiscard]] double recall() const { return ratio(right, failures); }
  [[nodiscard]] double f1() const { return ratio(2 * right, right + wrong + failures); }
  // F1 with episodes counted as wrong whose failure came later than the horizon after their start.
  [[nodiscard]] double f1_within() const {
    return ratio(2 * (right - beyond), right + wrong + failures);
  }
  [[nodiscard]] double degraded_share() const { return ratio(degraded_seconds, unit_seconds); }
  [[nodiscard]] double lift() const { return ratio(recall(), degraded_share()); }
  [[nodiscard]] double false_alarms_per_month() const { return ratio(wrong, unit_seconds / kMonth); }
  // Of the leads; `share` 0 to 1, nearest rank; 0 without leads.
  [[nodiscard]] double lead(double share) const;
  void add(const Score& other);

  static constexpr double kMonth = 30 * 86400.0;

 private:
  static double ratio(double a, double b) { return b > 0 ? a / b : 0; }
};

// A failure and the alarm that was right about it, or an alarm that was wrong.
struct Example {
  std::string unit;
  Time start{};
  Time end{};
  float risk = 0;
  bool right = false;
  std::string cause;
};

// A policy that is replaced now and then: from its time on.
using Schedule = std::vector<std::pair<Time, AlarmPolicy>>;

// `horizon` only for `beyond`. `examples` may be null. Alarms of before the window are not known to it.
Score score(const std::vector<const UnitTrace*>& units, const Schedule& schedule, Window window,
            Duration lead_min, Duration horizon, std::vector<Example>* examples = nullptr);

// Liang's temporal rule: each unit that comes back from a failure is degraded for `hold`.
Score score_temporal(const std::vector<const UnitTrace*>& units, Duration hold, Window window,
                     Duration lead_min);

// What a policy is chosen for: the best mean of F1 and f1_within(), with at least this precision, at
// most this share of the time degraded and at least this f1_within(). The last does not bind the
// temporal rule, nor that rule held on while the risk stays.
struct Objective {
  double precision_min = 0;
  double share_max = 1;
  double within_min = 0;
};
// With risks alone, with a time degraded after each repair, or both. The best policy for each objective on the window; deterministic. One that never raises an alarm where
// there is nothing to learn from.
std::vector<AlarmPolicy> choose_policies(const std::vector<const UnitTrace*>& units, Duration hold,
                                         Window window, Duration lead_min,
                                         const std::vector<Objective>& objectives);

}  // namespace lifeboat::predictor
