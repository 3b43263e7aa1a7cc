#include "predictor/evaluate/evaluate.hpp"

#include <algorithm>
#include <memory>

#include "predictor/predictor.hpp"

namespace lifeboat::predictor {
namespace {

// The threshold when the training has no failures to choose one by.
constexpr double kUntrained = 0.38;

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

// The later half of the failures before the test.
Window tuning_window(const std::vector<const UnitTrace*>& units, Time test) {
  std::vector<Time> failures;
  Time first = test;
  for (const UnitTrace* unit : units) {
    first = std::min(first, unit->seen);
    for (const Outage& outage : unit->outages) {
      if (outage.start < test) failures.push_back(outage.start);
    }
  }
  if (failures.empty()) return {first, test};
  std::sort(failures.begin(), failures.end());
  return {failures[failures.size() / 2], test};
}

}  // namespace

Result<Evaluation> evaluate(Format format, const Trial& trial, const Log& log, Time begin) {
  if (log.events.empty() || log.events.back().time < begin) return fail(Errc::kInvalid, "there is nothing to test on");
  PredictorConfig config = trial.config;
  config.horizon = trial.window;
  config.lead_min = trial.lead_min;
  Predictor predictor(config);
  Traces traces;
  predictor.on_risk([&](const std::string& node, Time now, double risk) {
    UnitTrace& unit = traces.of(node);
    if (!unit.samples.empty() && unit.samples.back().time == now) {
      unit.samples.back().risk = static_cast<float>(risk);
    } else {
      unit.samples.push_back({now, static_cast<float>(risk)});
    }
  });
  Evaluation result;
  const auto feed = [&](const Event& event) {
    predictor.advance(event.time);
    note_outage(traces.of(event.node), event);
    predictor.add(event);
    (void)predictor.take_changes();
    ++result.events;
  };
  for (const Event& event : log.events) {
    feed(event);
    if (event.kind != EventKind::kRepaired) result.test.end = event.time;
  }
  result.test.begin = begin;
  predictor.advance(result.test.end);
  result.weights = predictor.history().weights();

  std::map<std::string, std::vector<const UnitTrace*>> populations;
  for (const UnitTrace& unit : traces.all()) {
    const std::string name(population_of(format, unit.name));
    if (name.empty() || (!trial.population.empty() && name != trial.population)) continue;
    populations[name].push_back(&unit);
  }
  for (const auto& [name, units] : populations) {
    result.units += units.size();
    result.unit_counts[name] = units.size();
    const Window tuning = tuning_window(units, begin);
    const Score rule = score_temporal(units, trial.window, tuning, trial.lead_min);
    const Score temporal = score_temporal(units, trial.window, result.test, trial.lead_min);
    result.temporal[name] = temporal;
    result.temporal[""].add(temporal);
    for (Point* point : {&result.balanced, &result.strict}) {
      const bool strict = point == &result.strict;
      const Objective objective{strict ? trial.strict_precision : trial.precision_min,
                                rule.degraded_share()};
      const AlarmPolicy policy =
          rule.failures > 0 ? choose_policy(units, trial.window, tuning, trial.lead_min, objective)
                            : AlarmPolicy{kUntrained, kUntrained, trial.window};
      const Score tested = score(units, policy, result.test, trial.lead_min, trial.window,
                                 strict ? nullptr : &result.examples);
      point->policies[name] = policy;
      point->populations[name] = tested;
      point->total.add(tested);
    }
  }
  return result;
}

}  // namespace lifeboat::predictor
