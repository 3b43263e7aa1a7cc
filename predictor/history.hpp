// history.hpp - how likely a node is to fail, from when it and its group failed before.
//
// A Poisson regression of the hazard on a few features of the past: log(failures per day) = w * x. What
// happened between two looks at a node is one observation; the weights follow by recursive least squares
// of the log-likelihood (an extended Kalman filter with one state: no step size, no epochs, one pass).
// Source: failures cluster in time on few nodes, with a hazard that falls after a repair (Schroeder and
// Gibson 2006; Hacker, Romero and Carothers 2009); the regression is the textbook one (Fahrmeir 1992).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "predictor/event.hpp"

namespace lifeboat::predictor {

inline constexpr std::size_t kHistoryFeatures = 15;
using HistoryVector = std::array<double, kHistoryFeatures>;

// A sum that forgets: each event counts exp(-age / tau).
class DecayingCount {
 public:
  void add(double day, double tau, double weight = 1) {
    value_ = at(day, tau) + weight;
    day_ = day;
  }
  [[nodiscard]] double at(double day, double tau) const;

  double value_ = 0;
  double day_ = 0;
};

// Nodes that fail for common reasons: a system, a rack. Times are in days since 1970.
struct GroupHistory {
  double nodes = 0;
  double node_days = 0;   // observed up to `last`
  double failures = 0;
  double last = 0;
  DecayingCount day;    // failures, tau 1 d
  DecayingCount month;  // 30 d
};

struct NodeHistory {
  double seen = 0;      // first heard of
  double failed = 0;    // last failure; 0: never
  double repaired = 0;  // last repair
  double failures = 0;
  DecayingCount days, weeks, months;  // failures, tau 2 d, 20 d, 200 d
  DecayingCount hardware, software;   // by cause, tau 60 d
  double looked = 0;                  // when `features` were taken; 0: not under observation
  HistoryVector features{};
};

class HistoryModel {
 public:
  explicit HistoryModel(double learning = 1);

  // A node of the group was heard of for the first time.
  void join(NodeHistory& node, GroupHistory& group, double day) const;
  // It failed. `cause` is the operator's or the diagnosis' class; `shared`: so did many others at once.
  void fail(NodeHistory& node, GroupHistory& group, double day, std::string_view cause, bool shared);
  void repair(NodeHistory& node, const GroupHistory& group, double day) const;
  // Learns from the time since the last look that it did not fail, and looks again.
  void look(NodeHistory& node, GroupHistory& group, double day);
  // P(fails within `days`), if it is up now.
  [[nodiscard]] double risk(const NodeHistory& node, const GroupHistory& group, double day,
                            double days) const;
  // When to look at it again: seldom at one that has long been quiet.
  [[nodiscard]] static double next_look(const NodeHistory& node, double day);

  [[nodiscard]] const HistoryVector& weights() const { return weights_; }
  void set_weights(const HistoryVector& weights) { weights_ = weights; }
  using Covariance = std::array<HistoryVector, kHistoryFeatures>;
  [[nodiscard]] const Covariance& covariance() const { return covariance_; }
  void set_covariance(const Covariance& covariance) { covariance_ = covariance; }

 private:
  [[nodiscard]] double hazard(const HistoryVector& x) const;
  void learn(const HistoryVector& x, double days, double failed);

  double learning_;
  HistoryVector weights_;
  Covariance covariance_{};
};

}  // namespace lifeboat::predictor
