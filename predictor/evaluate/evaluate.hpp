// evaluate.hpp - an honest trial of the predictor on a log: what was learned until then raises the alarms of
// the time after.
//
// The events of training and test go once through a predictor in the order of time; each risk it states
// rests on earlier events only. The thresholds of the alarms are chosen anew every month, on the risks that
// were stated in the eight windows before (or since the last hundred failures) and their outcomes by then:
// the best mean of F1 and of F1 within the window that takes at most half as much again of the nodes' time
// as Liang's temporal rule (degraded for the window after each repair) took in the same time. That rule, also
// held on while the risk stays, is one of the policies chosen from; others must have been clearly better than
// it within the window. The test is then scored with them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "predictor/config.hpp"
#include "predictor/evaluate/cost.hpp"
#include "predictor/evaluate/formats.hpp"
#include "predictor/evaluate/score.hpp"
#include "predictor/history.hpp"

namespace lifeboat::predictor {

struct Trial {
  Duration window = std::chrono::hours(24 * 7);   // the horizon, and how long an alarm is held
  Duration lead_min = std::chrono::seconds(120);
  double precision_min = 0;    // thresholds: the best with at least this precision
  double strict_precision = 0.6;  // of the second operating point
  std::string population;      // only this one; empty: all
  CostModel cost;
  PredictorConfig config;      // horizon and lead_min are set from above
};

// One operating point.
struct Point {
  std::map<std::string, AlarmPolicy> policies;  // of each population, the last of its schedule
  std::map<std::string, Score> populations;
  Score total;
};

struct Evaluation {
  Window test;
  std::size_t units = 0;
  std::size_t events = 0;
  Point balanced;            // the best that takes little more capacity than the temporal rule
  Point strict;              // the same with a precision of at least `strict_precision`
  std::map<std::string, Score> temporal;  // Liang's rule, by population; "" is the total
  std::vector<Example> examples;          // of `balanced`
  std::map<std::string, HistoryVector> weights;  // of each population
};

// The test is from `begin` to the log's end. kInvalid if nothing happens in it.
Result<Evaluation> evaluate(Format format, const Trial& trial, const Log& log, Time begin);

}  // namespace lifeboat::predictor
