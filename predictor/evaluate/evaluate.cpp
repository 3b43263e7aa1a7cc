#include "predictor/evaluate/evaluate.hpp"

#include <algorithm>
#include <memory>

#include "predictor/predictor.hpp"

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

// The threshold when the training has no failures to choose one by.
constexpr double kUntrained = 0.38;

// Against the temporal rule: how much of the time it took may be degraded, and how much better alarms
// that are not the rule's must have been within the window (a small gain on the past is mostly luck).
constexpr double kShare = 1.5;
constexpr double kMargin = 1.15;

class Traces {
 public:
  UnitTrace& of(const std::string& name) {
    const auto [found, fresh] = ids_.try_emplace(name, units_.size());
    if (fresh) units_.push_back(UnitTrace{name, {}, {}, {}});
    return units_[found->second];
  }
  [[nodiscard]] const std::vector<UnitTrace>& all() const { return units_; }

 private:
  std::unordered_map<std::string, std::size_t> ids_;
  std::vector<UnitTrace> units_;
};

void note_outage(UnitTrace& unit, const Event& event) {
  if (unit.seen == Time{}) unit.seen = event.time;
  const bool down = !unit.outages.empty() && unit.outages.back().end == Time::max();
  if (event.kind == EventKind::kDown || event.kind == EventKind::kHeartbeatLost) {
    if (down) return;
    const std::string_view cause = detail(event, "cause_class");
    unit.outages.push_back({event.time, Time::max(), std::string(cause)});
  } else if (event.kind == EventKind::kRepaired && down) {
    unit.outages.back().end = event.time;
  }
}

// What the thresholds at `now` are chosen on: eight windows before, or more until there are enough failures.
Window tuning_window(const std::vector<const UnitTrace*>& units, Duration window, Time now) {
  constexpr std::size_t kFailuresMin = 100;
  std::vector<Time> failures;
  for (const UnitTrace* unit : units) {
    for (const Outage& outage : unit->outages) {
      if (outage.start < now) failures.push_back(outage.start);
    }
  }
  Time begin = now - 8 * window;
  std::sort(failures.begin(), failures.end());
  if (!failures.empty()) {
    begin = std::min(begin, failures[failures.size() - std::min(failures.size(), kFailuresMin)]);
  }
  return {begin, now};
}

// Runs the predictor over the events of one population.
class Runner {
 public:
  explicit Runner(const PredictorConfig& config) : predictor_(config) {
    predictor_.on_risk([this](const std::string& node, Time now, double risk) {
      std::vector<RiskSample>& samples = traces_.of(node).samples;
      const auto value = static_cast<float>(risk);
      if (!samples.empty() && samples.back().time == now) {
        samples.back().risk = value;
      } else {
        samples.push_back({now, value, false});
      }
    });
  }

  void feed(const Event& event) {
    predictor_.advance(event.time);
    note_outage(traces_.of(event.node), event);
    predictor_.add(event);
    (void)predictor_.take_changes();
    if (event.kind != EventKind::kRepaired) return;
    std::vector<RiskSample>& samples = traces_.of(event.node).samples;
    if (!samples.empty() && samples.back().time == event.time) samples.back().repaired = true;
  }
  void finish(Time end) { predictor_.advance(end); }

  [[nodiscard]] const Traces& traces() const { return traces_; }
  [[nodiscard]] const HistoryVector& weights() const { return predictor_.history().weights(); }

 private:
  Traces traces_;
  Predictor predictor_;
};

struct Schedules {
  Schedule balanced;
  Schedule strict;
};

Schedules make_schedules(const Trial& trial, const std::vector<const UnitTrace*>& units,
                         Window test) {
  Schedules schedules;
  for (Time month = test.begin; month <= test.end; month += 24h * 30) {
    const Window tuning = tuning_window(units, trial.window, month);
    const Score rule = score_temporal(units, trial.window, tuning, trial.lead_min);
    if (rule.failures == 0) {
      const AlarmPolicy untrained{kUntrained, kUntrained, trial.window};
      schedules.balanced.emplace_back(month, untrained);
      schedules.strict.emplace_back(month, untrained);
      continue;
    }
    const double share = rule.degraded_share();
    const std::vector<AlarmPolicy> chosen =
        choose_policies(units, trial.window, tuning, trial.lead_min,
                        {{trial.precision_min, kShare * share, kMargin * rule.f1()},
                         {trial.strict_precision, share, 0}});
    schedules.balanced.emplace_back(month, chosen[0]);
    schedules.strict.emplace_back(month, chosen[1]);
  }
  return schedules;
}

}  // namespace

Result<Evaluation> evaluate(Format format, const Trial& trial, const Log& log, Time begin) {
  if (log.events.empty() || log.events.back().time < begin) {
    return fail(Errc::kInvalid, "there is nothing to test on");
  }
  PredictorConfig config = trial.config;
  config.horizon = trial.window;
  config.lead_min = trial.lead_min;
  Evaluation result;
  result.events = log.events.size();
  std::map<std::string, std::unique_ptr<Runner>> runners;
  for (const Event& event : log.events) {
    const std::string name(population_of(format, event.node));
    if (!trial.population.empty() && name != trial.population) continue;
    std::unique_ptr<Runner>& runner = runners[name];
    if (!runner) runner = std::make_unique<Runner>(config);
    runner->feed(event);
    if (event.kind != EventKind::kRepaired) result.test.end = event.time;
  }
  result.test.begin = begin;
  for (const auto& [name, runner] : runners) {
    runner->finish(result.test.end);
    std::vector<const UnitTrace*> units;
    for (const UnitTrace& unit : runner->traces().all()) {
      if (is_scored(format, unit.name)) units.push_back(&unit);
    }
    if (units.empty()) continue;
    result.units += units.size();
    result.weights[name] = runner->weights();
    const Schedules schedules = make_schedules(trial, units, result.test);
    const Score temporal = score_temporal(units, trial.window, result.test, trial.lead_min);
    result.temporal[name] = temporal;
    result.temporal[""].add(temporal);
    const auto take = [&](Point& point, const Schedule& schedule, std::vector<Example>* examples) {
      const Score tested =
          score(units, schedule, result.test, trial.lead_min, trial.window, examples);
      point.policies[name] = schedule.back().second;
      point.populations[name] = tested;
      point.total.add(tested);
    };
    take(result.balanced, schedules.balanced, &result.examples);
    take(result.strict, schedules.strict, nullptr);
  }
  return result;
}

}  // namespace lifeboat::predictor
