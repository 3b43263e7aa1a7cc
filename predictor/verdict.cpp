// What the predictor says to people and planners about a node.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "predictor/predictor.hpp"
#include "predictor/probation.hpp"

namespace lifeboat::predictor {
namespace {

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
// At most 30 years, also of what is no number.
Duration duration(double seconds) {
  constexpr double kSecondsMax = 1e9;
  return Duration(static_cast<std::int64_t>((seconds < kSecondsMax ? seconds : kSecondsMax) * 1e6));
}

std::string hours_text(Duration duration) {
  char text[48];
  const double hours = seconds(duration) / 3600;
  (void)std::snprintf(text, sizeof text,
                      hours < 1.5 ? "%.0f min" : hours < 48 ? "%.0f h" : "%.0f d",
                      hours < 1.5 ? hours * 60 : hours < 48 ? hours : hours / 24);
  return text;
}

const Signal* strongest(const NodeRecord& node) {
  const auto best = std::max_element(
      node.signals.begin(), node.signals.end(),
      [](const Signal& a, const Signal& b) { return a.probability < b.probability; });
  return best == node.signals.end() ? nullptr : &*best;
}

}  // namespace

Duration Predictor::lead_of(const NodeRecord& node) const {
  if (node.down) return Duration{0};
  // What was learned about the strongest evidence; otherwise the median of a constant hazard, given
  // that it fails within the horizon: F(t) = risk / 2.
  if (const Signal* signal = strongest(node); signal != nullptr && signal->lead > 0) {
    const double passed = seconds(now_ - signal->time);
    if (signal->lead > passed) return duration(signal->lead - passed);
  }
  const double risk = std::clamp(node.risk, 1e-9, 1 - 1e-9);
  return duration(seconds(config_.horizon) * std::log1p(-risk / 2) / std::log1p(-risk));
}

std::string Predictor::reason_of(const NodeRecord& node) const {
  const Signal* signal = strongest(node);
  // What a rule found names the part and says it all; of a learned message, its words say most.
  const auto said = [&] {
    const auto& [event, why] = signal->evidence;
    if (!event.location.empty() && why.starts_with(event.location + ":")) return why;
    std::string text = event.text.empty() ? why : event.text.substr(0, 160) + " [" + why + "]";
    if (event.location.empty() || text.find(event.location) != text.npos) return text;
    return event.location + ": " + text;
  };
  if (node.down) return signal != nullptr ? said() : "it went down";
  char head[96];
  (void)std::snprintf(head, sizeof head, "risk %.2f within %s", node.risk,
                      hours_text(config_.horizon).c_str());
  std::string text = head;
  if (node.probation_until > now_) {
    text += "; on probation after its repair, " + hours_text(now_ - node.repaired) + " ago";
  }
  if (signal != nullptr && signal->probability >= node.history_risk) {
    text += "; " + said();
  } else if (node.history_risk > 0 && node.history.failures > 0) {
    char past[96];
    const double times = std::ceil(node.history.failures);
    (void)std::snprintf(past, sizeof past, "; it failed %.0f time%s, last %s ago", times,
                        times == 1 ? "" : "s",
                        hours_text(now_ - Time(duration(node.history.failed * 86400))).c_str());
    text += past;
  }
  return text;
}

Verdict Predictor::verdict_of(const NodeRecord& node) const {
  Verdict verdict;
  verdict.node = node.name;
  verdict.degraded = node.degraded;
  verdict.down = node.down;
  verdict.risk = risk_of(node);
  verdict.horizon = config_.horizon;
  verdict.lead = lead_of(node);
  verdict.since = node.since;
  verdict.reason = reason_of(node);
  for (const Signal& signal : node.signals) verdict.evidence.push_back(signal.evidence);
  return verdict;
}

Verdict Predictor::verdict(const std::string& node) const {
  if (const auto found = node_ids_.find(node); found != node_ids_.end()) {
    return verdict_of(nodes_[found->second]);
  }
  Verdict unknown;
  unknown.node = node;
  unknown.horizon = config_.horizon;
  unknown.reason = "nothing was heard of it";
  return unknown;
}

std::vector<Verdict> Predictor::take_changes() {
  std::vector<Verdict> verdicts;
  for (const std::uint32_t at : changes_) {
    nodes_[at].told = false;
    verdicts.push_back(verdict_of(nodes_[at]));
  }
  changes_.clear();
  return verdicts;
}

}  // namespace lifeboat::predictor
