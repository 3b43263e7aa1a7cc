#include "predictor/evaluate/score.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace lifeboat::predictor {
namespace {

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

double overlap(Time from, Time to, const Window& window) {
  return std::max(0.0, seconds(std::min(to, window.end) - std::max(from, window.begin)));
}

// One unit's run through the window, with what the alarm did.
class Run {
 public:
  Run(const UnitTrace& unit, const Window& window, Duration lead_min, Duration horizon,
      Score& score, std::vector<Example>* examples)
      : unit_(unit),
        window_(window),
        lead_min_(lead_min),
        horizon_(horizon),
        score_(score),
        examples_(examples) {}

  // An alarm that ended by itself.
  void quiet(Time start, Time end, float risk) {
    score_.degraded_seconds += overlap(start, end, window_);
    if (end < window_.begin || end >= window_.end) return;
    score_.wrong += 1;
    tell(start, end, risk, false, "");
  }

  // A failure, with the alarm that was on, if one was.
  void failure(const Outage& outage, bool on, Time start, float risk) {
    if (on) score_.degraded_seconds += overlap(start, outage.start, window_);
    if (outage.start < window_.begin || outage.start >= window_.end) return;
    const Duration lead = outage.start - start;
    const bool right = on && lead >= lead_min_;
    score_.failures += 1;
    auto& [hits, all] = score_.causes[outage.cause];
    all += 1;
    if (right) {
      hits += 1;
      score_.right += 1;
      score_.leads.push_back(seconds(lead));
      if (lead > horizon_) score_.beyond += 1;
    } else if (on) {
      score_.wrong += 1;
      score_.late += 1;
    }
    if (on) tell(start, outage.start, risk, right, outage.cause);
  }

  void in_service() {
    Time from = unit_.seen;
    for (const Outage& outage : unit_.outages) {
      score_.unit_seconds += overlap(from, outage.start, window_);
      from = outage.end;
    }
    score_.unit_seconds += overlap(from, window_.end, window_);
  }

 private:
  void tell(Time start, Time end, float risk, bool right, const std::string& cause) {
    if (examples_ != nullptr) examples_->push_back({unit_.name, start, end, risk, right, cause});
  }

  const UnitTrace& unit_;
  const Window& window_;
  Duration lead_min_;
  Duration horizon_;
  Score& score_;
  std::vector<Example>* examples_;
};

void run_schedule(const UnitTrace& unit, const Schedule& schedule, const Window& window, Run run) {
  Alarm alarm;
  float risk = 0;  // the highest of the episode
  auto outage = std::partition_point(unit.outages.begin(), unit.outages.end(), [&](const Outage& o) {
    return o.start < window.begin;
  });
  const auto fails_before = [&](Time time) {
    for (; outage != unit.outages.end() && outage->start <= time; ++outage) {
      if (alarm.on() && alarm.until() < outage->start) {
        run.quiet(alarm.since(), alarm.until(), risk);
        alarm.clear();
      }
      run.failure(*outage, alarm.on(), alarm.since(), risk);
      alarm.clear();
    }
  };
  auto sample = std::partition_point(unit.samples.begin(), unit.samples.end(),
                                     [&](const RiskSample& s) { return s.time < window.begin; });
  auto policy = schedule.begin();
  for (; sample != unit.samples.end() && sample->time < window.end; ++sample) {
    while (policy + 1 != schedule.end() && (policy + 1)->first <= sample->time) ++policy;
    // Most samples are of healthy units: nothing is on, nothing turns on.
    const bool repaired = sample->repaired && policy->second.after_repair;
    if (!alarm.on() && !repaired && sample->risk < policy->second.on) continue;
    fails_before(sample->time);
    if (alarm.on() && alarm.until() <= sample->time) {
      run.quiet(alarm.since(), alarm.until(), risk);
      alarm.clear();
    }
    risk = alarm.on() ? std::max(risk, sample->risk) : sample->risk;
    const double raised = repaired ? policy->second.on : 0;
    alarm.update(policy->second, sample->time, std::max<double>(raised, sample->risk));
  }
  fails_before(window.end);
  if (alarm.on()) run.quiet(alarm.since(), alarm.until(), risk);
  run.in_service();
}

}  // namespace

double Score::lead(double share) const {
  if (leads.empty()) return 0;
  std::vector<double> sorted = leads;
  std::sort(sorted.begin(), sorted.end());
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

void Score::add(const Score& other) {
  failures += other.failures;
  right += other.right;
  wrong += other.wrong;
  late += other.late;
  beyond += other.beyond;
  unit_seconds += other.unit_seconds;
  degraded_seconds += other.degraded_seconds;
  leads.insert(leads.end(), other.leads.begin(), other.leads.end());
  for (const auto& [cause, counts] : other.causes) {
    causes[cause].first += counts.first;
    causes[cause].second += counts.second;
  }
}

Score score(const std::vector<const UnitTrace*>& units, const Schedule& schedule, Window window,
            Duration lead_min, Duration horizon, std::vector<Example>* examples) {
  Score total;
  for (const UnitTrace* unit : units) {
    run_schedule(*unit, schedule, window, Run(*unit, window, lead_min, horizon, total, examples));
  }
  return total;
}

Score score_temporal(const std::vector<const UnitTrace*>& units, Duration hold, Window window,
                     Duration lead_min) {
  Score total;
  const Schedule always{{Time{}, {2, 2, hold, true}}};
  for (const UnitTrace* unit : units) {
    UnitTrace repairs{unit->name, unit->seen, {}, unit->outages};
    for (const Outage& outage : unit->outages) {
      if (outage.end != Time::max()) repairs.samples.push_back({outage.end, 0, true});
    }
    run_schedule(repairs, always, window, Run(*unit, window, lead_min, hold, total, nullptr));
  }
  return total;
}

std::vector<AlarmPolicy> choose_policies(const std::vector<const UnitTrace*>& units, Duration hold,
                                         Window window, Duration lead_min,
                                         const std::vector<Objective>& objectives) {
  constexpr int kSteps = 40;
  constexpr double kLowest = 0.01;
  constexpr double kHighest = 0.97;
  constexpr double kNever = 2;  // no risk is so high
  constexpr std::array<double, 3> kOff{1, 0.7, 0.5};  // of `on`
  std::vector<AlarmPolicy> best(objectives.size(), AlarmPolicy{kNever, kNever, hold});
  std::vector<double> best_f1(objectives.size(), 0);
  const auto risk = [](int step) {
    return kLowest * std::pow(kHighest / kLowest, static_cast<double>(step) / kSteps);
  };
  const auto consider = [&](const AlarmPolicy& policy) {
    const Score result = score(units, {{Time{}, policy}}, window, lead_min, hold);
    const double f1 = (result.f1() + result.f1_within()) / 2;
    // Only repairs raise it: holding on longer catches more and, within the window, loses nothing.
    const bool is_rule = policy.on == kNever;
    for (std::size_t i = 0; i < objectives.size(); ++i) {
      if (result.precision() < objectives[i].precision_min ||
          result.degraded_share() > objectives[i].share_max ||
          (!is_rule && result.f1_within() < objectives[i].within_min) || f1 <= best_f1[i]) {
        continue;
      }
      best_f1[i] = f1;
      best[i] = policy;
    }
  };
  for (const bool after_repair : {true, false}) {
    if (after_repair) {
      consider({kNever, kNever, hold, true});
      for (int step = 0; step <= kSteps; ++step) consider({kNever, risk(step), hold, true});
    }
    for (int step = 0; step <= kSteps; ++step) {
      const double on = risk(step);
      for (const double off : kOff) consider({on, on * off, hold, after_repair});
    }
  }
  return best;
}

}  // namespace lifeboat::predictor
