// cost.hpp - what alarms are worth: node-hours saved by moving jobs away in time.
//
// Waste of a job that writes checkpoints every T (Young 1974, Daly 2006), with a predictor of recall r and
// precision p whose alarms are answered by a migration that stalls the job for M, so that a predicted failure
// costs nothing more (Aupy, Robert, Vivien and Zaidouni 2013, with migration in place of a checkpoint):
//   waste = C / T + ((1 - r)(T / 2 + D + R) + (r / p) M) / mu,   T = sqrt(2 mu C / (1 - r))
#pragma once

#include <chrono>

#include "predictor/evaluate/score.hpp"

namespace lifeboat::predictor {

struct CostModel {
  double checkpoint_s = 300;  // C
  double downtime_s = 600;    // D
  double recovery_s = 300;    // R
  double migration_s = 30;    // M
  double job_nodes = 128;     // one job's nodes: any of them fails, it fails
  double spare = 1;           // share of degraded nodes that would have been idle spares anyway
};

struct Savings {
  double waste_without = 0;  // share of all node-time
  double waste_with = 0;
  double quarantine = 0;     // share of all node-time
  double node_hours = 0;     // saved in the window; may be negative
};

[[nodiscard]] Savings savings(const CostModel& model, const Score& score);

}  // namespace lifeboat::predictor
