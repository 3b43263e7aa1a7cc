#include "predictor/history.hpp"

#include <algorithm>
#include <cmath>

namespace lifeboat::predictor {
namespace {

constexpr double kDays = 2;
constexpr double kWeeks = 20;
constexpr double kMonths = 200;
constexpr double kCause = 60;
constexpr double kHour = 1.0 / 24;

// A system's failures per node and day, for a start: LANL's clusters have about this.
constexpr double kUsualRate = 0.005;

void observe(GroupHistory& group, double day) {
  if (day > group.last) group.node_days += group.nodes * (day - group.last);
  group.last = std::max(group.last, day);
}

// What LANL's SMP clusters taught, to begin with. The small variance keeps failures that come in bursts,
// which a Poisson regression takes for so much evidence, from driving the weights to extremes.
constexpr HistoryVector kPriorWeights{0,    0.9,  0.5, 0.03, 0.5, -0.15, 0, -0.1,
                                      0.25, 0.4, 0.2, 0.3,  0,   0,     0};
constexpr double kPriorVariance = 0.1;

HistoryVector features(const NodeHistory& node, const GroupHistory& group, double day) {
  const bool failed = node.failed > 0;
  const double age = std::max(0.0, day - (failed ? node.repaired : node.seen));
  const double rate = (group.failures + 1) / (group.node_days + 1 / kUsualRate);
  const double recent = (group.month.at(day, 30) + 1) / (30 * group.nodes + 1 / kUsualRate);
  const double expected = rate * std::max(0.0, day - node.seen);
  const double hours = std::log1p(age / kHour);
  const double days = node.days.at(day, kDays);
  const double weeks = node.weeks.at(day, kWeeks);
  const double months = node.months.at(day, kMonths);
  return {1,
          std::log(rate),
          std::log(recent / rate),
          std::log1p(group.day.at(day, 1)),
          failed ? 0.0 : 1.0,
          failed ? hours : 0.0,
          failed ? hours * hours / 10 : 0.0,
          failed ? 0.0 : hours,
          std::log1p(days),
          std::log1p(weeks),
          std::log1p(months),
          std::log((node.failures + 1) / (expected + 1)),
          std::log1p(node.hardware.at(day, kCause)),
          std::log1p(node.software.at(day, kCause)),
          failed ? std::log1p(std::max(0.0, node.repaired - node.failed) / kHour) *
                       std::exp(-age / kWeeks)
                 : 0.0};
}

}  // namespace

double DecayingCount::at(double day, double tau) const {
  return value_ == 0 ? 0 : value_ * std::exp(-std::max(0.0, day - day_) / tau);
}

HistoryModel::HistoryModel(double learning) : learning_(learning), weights_(kPriorWeights) {
  for (std::size_t i = 0; i < kHistoryFeatures; ++i) covariance_[i][i] = kPriorVariance;
}

double HistoryModel::hazard(const HistoryVector& x) const {
  double sum = 0;
  for (std::size_t i = 0; i < kHistoryFeatures; ++i) sum += weights_[i] * x[i];
  return std::exp(std::clamp(sum, -20.0, 4.0));
}

void HistoryModel::learn(const HistoryVector& x, double days, double failed) {
  if (learning_ <= 0 || days <= 0) return;
  const double mean = hazard(x) * days;
  HistoryVector gain{};
  double spread = 0;
  for (std::size_t i = 0; i < kHistoryFeatures; ++i) {
    for (std::size_t j = 0; j < kHistoryFeatures; ++j) gain[i] += covariance_[i][j] * x[j];
    spread += gain[i] * x[i];
  }
  const double shrink = mean / (1 + mean * spread);
  for (std::size_t i = 0; i < kHistoryFeatures; ++i) {
    for (std::size_t j = 0; j < kHistoryFeatures; ++j) {
      covariance_[i][j] -= shrink * gain[i] * gain[j];
    }
  }
  const double step = learning_ * (failed - mean) / (1 + mean * spread);
  for (std::size_t i = 0; i < kHistoryFeatures; ++i) weights_[i] += step * gain[i];
}

void HistoryModel::join(NodeHistory& node, GroupHistory& group, double day) const {
  observe(group, day);
  group.nodes += 1;
  node.seen = day;
  node.looked = day;
  node.features = features(node, group, day);
}

void HistoryModel::look(NodeHistory& node, GroupHistory& group, double day) {
  observe(group, day);
  if (node.looked > 0) learn(node.features, day - node.looked, 0);
  node.looked = day;
  node.features = features(node, group, day);
}

void HistoryModel::fail(NodeHistory& node, GroupHistory& group, double day, std::string_view cause,
                        bool shared) {
  observe(group, day);
  if (node.looked > 0) learn(node.features, std::max(day - node.looked, kHour / 60), 1);
  node.looked = 0;
  node.failed = day;
  const double weight = shared ? 0.5 : 1;  // says less about the node itself
  node.failures += weight;
  node.days.add(day, kDays, weight);
  node.weeks.add(day, kWeeks, weight);
  node.months.add(day, kMonths, weight);
  if (cause == "Hardware") node.hardware.add(day, kCause, weight);
  if (cause == "Software") node.software.add(day, kCause, weight);
  group.failures += 1;
  group.day.add(day, 1);
  group.month.add(day, 30);
}

void HistoryModel::repair(NodeHistory& node, const GroupHistory& group, double day) const {
  node.repaired = day;
  node.looked = day;
  node.features = features(node, group, day);
}

double HistoryModel::risk(const NodeHistory& node, const GroupHistory& group, double day,
                          double days) const {
  // The hazard falls fastest at first, so the first pieces are the shortest.
  constexpr std::array<double, 5> kBounds{0, 1.0 / 64, 1.0 / 8, 1.0 / 2, 1};
  double sum = 0;
  for (std::size_t i = 0; i + 1 < kBounds.size(); ++i) {
    const double middle = day + days * (kBounds[i] + kBounds[i + 1]) / 2;
    sum += hazard(features(node, group, middle)) * days * (kBounds[i + 1] - kBounds[i]);
  }
  return 1 - std::exp(-sum);
}

double HistoryModel::next_look(const NodeHistory& node, double day) {
  const double age = day - (node.failed > 0 ? node.repaired : node.seen);
  return day + std::clamp(age / 4, kHour, 1.0);
}

}  // namespace lifeboat::predictor
