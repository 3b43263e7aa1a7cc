#include "predictor/evaluate/report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include "base/json.hpp"

namespace lifeboat::predictor {
namespace {

// Six significant digits: enough for people, and the same on every machine.
json::value rounded(double number) {
  char text[32];
  (void)std::snprintf(text, sizeof text, "%.6g", number);
  return json::value(std::strtod(text, nullptr));
}

[[gnu::format(printf, 2, 3)]] void append(std::string& out, const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  (void)std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  out += text;
}

// Wilson's 95 % interval of a share.
std::pair<double, double> interval(double hits, double all) {
  if (all == 0) return {0, 1};
  constexpr double kZ = 1.96;
  const double p = hits / all;
  const double scale = 1 + kZ * kZ / all;
  const double middle = (p + kZ * kZ / (2 * all)) / scale;
  const double reach = kZ * std::sqrt(p * (1 - p) / all + kZ * kZ / (4 * all * all)) / scale;
  return {middle - reach, middle + reach};
}
json::array interval_json(double hits, double all) {
  const auto [low, high] = interval(hits, all);
  return {rounded(low), rounded(high)};
}

// The same with episodes counted as wrong whose failure came later than a window after their start.
json::object within_json(const Score& score) {
  const double right = score.right - score.beyond;
  const double alarms = score.right + score.wrong;
  return {{"precision", rounded(alarms > 0 ? right / alarms : 0)},
          {"recall", rounded(score.failures > 0 ? right / score.failures : 0)},
          {"f1", rounded(alarms > 0 ? 2 * right / (alarms + score.failures) : 0)}};
}

json::object score_json(const Trial& trial, const Score& score) {
  json::object causes;
  for (const auto& [cause, counts] : score.causes) {
    if (cause.empty()) continue;
    causes[cause] = json::object{{"failures", counts.second},
                                 {"recall", rounded(counts.first / counts.second)}};
  }
  const Savings saved = savings(trial.cost, score);
  return {{"precision", rounded(score.precision())},
          {"recall", rounded(score.recall())},
          {"f1", rounded(score.f1())},
          {"lead_p10_s", rounded(score.lead(0.1))},
          {"lead_p50_s", rounded(score.lead(0.5))},
          {"lead_p90_s", rounded(score.lead(0.9))},
          {"false_alarms_per_node_month", rounded(score.false_alarms_per_month())},
          {"degraded_share", rounded(score.degraded_share())},
          {"saved_node_hours", rounded(saved.node_hours)},
          {"lift", rounded(score.lift())},
          {"failures", score.failures},
          {"alarms", score.right + score.wrong},
          {"right", score.right},
          {"late", score.late},
          {"right_beyond_window", score.beyond},
          {"within_window", within_json(score)},
          {"precision_interval", interval_json(score.right, score.right + score.wrong)},
          {"recall_interval", interval_json(score.right, score.failures)},
          {"degraded_node_hours", rounded(score.degraded_seconds / 3600)},
          {"waste_without", rounded(saved.waste_without)},
          {"waste_with", rounded(saved.waste_with)},
          {"recall_by_cause", std::move(causes)}};
}

json::object point_json(const Trial& trial, const Point& point) {
  json::object out = score_json(trial, point.total);
  if (point.populations.size() > 1) {
    json::object populations;
    for (const auto& [name, score] : point.populations)
      populations[name] = score_json(trial, score);
    out["populations"] = std::move(populations);
  }
  json::object policies;
  for (const auto& [name, policy] : point.policies) {
    policies[name] = json::object{{"on", rounded(policy.on)}, {"off", rounded(policy.off)}};
  }
  out["thresholds"] = std::move(policies);
  return out;
}

// Alarms at random that take as much of the nodes' time: recall is the share, precision the chance
// that a failure falls into a window.
json::object random_json(const Trial& trial, const Score& score) {
  const double window = std::chrono::duration<double>(trial.window).count();
  const double rate = score.unit_seconds > 0 ? score.failures / score.unit_seconds : 0;
  const double precision = 1 - std::exp(-rate * window);
  return {{"precision", rounded(precision)}, {"recall", rounded(score.degraded_share())}};
}

std::string duration_text(double seconds) {
  std::string text;
  if (seconds < 120) {
    append(text, "%.0f s", seconds);
  } else if (seconds < 2 * 3600) {
    append(text, "%.0f min", seconds / 60);
  } else if (seconds < 48 * 3600) {
    append(text, "%.1f h", seconds / 3600);
  } else {
    append(text, "%.1f d", seconds / 86400);
  }
  return text;
}

std::string date_text(Time time) {
  const std::chrono::year_month_day day(std::chrono::floor<std::chrono::days>(time));
  std::string text;
  append(text, "%04d-%02u-%02u", static_cast<int>(day.year()), static_cast<unsigned>(day.month()),
         static_cast<unsigned>(day.day()));
  return text;
}

void row(std::string& out, const std::string& name, const Score& score) {
  append(out, "%-26s %8.0f %7.0f  %5.3f %5.3f %5.3f  %9.4f %7.2f%% %7.1f  %s / %s / %s\n",
         name.c_str(), score.failures, score.right + score.wrong, score.precision(), score.recall(),
         score.f1(), score.false_alarms_per_month(), 100 * score.degraded_share(), score.lift(),
         duration_text(score.lead(0.1)).c_str(), duration_text(score.lead(0.5)).c_str(),
         duration_text(score.lead(0.9)).c_str());
}

void rows(std::string& out, const std::string& name, const Point& point) {
  row(out, name, point.total);
  if (point.populations.size() < 2) return;
  for (const auto& [population, score] : point.populations) row(out, "  " + population, score);
}

void examples(std::string& out, const char* heading, std::vector<Example> list, bool right) {
  std::erase_if(list, [&](const Example& example) { return example.right != right; });
  std::stable_sort(list.begin(), list.end(),
                   [](const Example& a, const Example& b) { return a.risk > b.risk; });
  if (list.empty()) return;
  append(out, "\n%s\n", heading);
  list.resize(std::min<std::size_t>(list.size(), 5));
  for (const Example& example : list) {
    const double length = std::chrono::duration<double>(example.end - example.start).count();
    append(out, "  %s on %s, risk %.2f: %s%s%s\n", example.unit.c_str(),
           date_text(example.start).c_str(), static_cast<double>(example.risk),
           right ? ("failed after " + duration_text(length)).c_str()
                 : ("no failure in " + duration_text(length)).c_str(),
           example.cause.empty() ? "" : ", ", example.cause.c_str());
  }
}

}  // namespace

std::string to_json_text(const Trial& trial, const Evaluation& evaluation) {
  json::object out = point_json(trial, evaluation.balanced);
  out["window_s"] = std::chrono::duration_cast<std::chrono::seconds>(trial.window).count();
  out["lead_min_s"] = std::chrono::duration_cast<std::chrono::seconds>(trial.lead_min).count();
  out["test_begin"] = date_text(evaluation.test.begin);
  out["test_end"] = date_text(evaluation.test.end);
  out["units"] = evaluation.units;
  out["strict"] = point_json(trial, evaluation.strict);
  json::object temporal;
  for (const auto& [name, score] : evaluation.temporal) {
    temporal[name.empty() ? "total" : name] = score_json(trial, score);
  }
  out["temporal_rule"] = std::move(temporal);
  out["random"] = random_json(trial, evaluation.balanced.total);
  return json::serialize(out) + "\n";
}

std::string to_table(const Trial& trial, const Evaluation& evaluation) {
  std::string out;
  append(out, "%zu units, %s to %s; window %s, at least %s of warning\n\n", evaluation.units,
         date_text(evaluation.test.begin).c_str(), date_text(evaluation.test.end).c_str(),
         duration_text(std::chrono::duration<double>(trial.window).count()).c_str(),
         duration_text(std::chrono::duration<double>(trial.lead_min).count()).c_str());
  append(out, "%-26s %8s %7s  %5s %5s %5s  %9s %8s %7s  %s\n", "", "failures", "alarms", "prec.",
         "rec.", "F1", "false/mo", "degraded", "lift", "lead p10 / p50 / p90");
  rows(out, "predictor", evaluation.balanced);
  rows(out, "predictor, strict", evaluation.strict);
  Point temporal;
  temporal.total = evaluation.temporal.at("");
  for (const auto& [name, score] : evaluation.temporal) {
    if (!name.empty()) temporal.populations[name] = score;
  }
  rows(out, "temporal rule (Liang)", temporal);
  const Score& score = evaluation.balanced.total;
  const Savings saved = savings(trial.cost, score);
  append(out, "\nRight beyond the window: %.0f of %.0f; too late: %.0f.\n", score.beyond,
         score.right, score.late);
  append(out,
         "Waste of a job of %.0f nodes: %.2f %% without, %.2f %% with: %.0f node-hours saved.\n",
         trial.cost.job_nodes, 100 * saved.waste_without, 100 * saved.waste_with, saved.node_hours);
  for (const auto& [cause, counts] : score.causes) {
    if (!cause.empty()) {
      append(out, "  %-14s %5.0f failures, recall %.3f\n", cause.c_str(), counts.second,
             counts.first / counts.second);
    }
  }
  examples(out, "Surest and right:", evaluation.examples, true);
  examples(out, "Surest and wrong:", evaluation.examples, false);
  return out;
}

}  // namespace lifeboat::predictor
