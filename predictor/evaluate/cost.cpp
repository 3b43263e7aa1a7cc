#include "predictor/evaluate/cost.hpp"

#include <algorithm>
#include <cmath>

namespace lifeboat::predictor {

Savings savings(const CostModel& model, const Score& score) {
  Savings result;
  if (score.failures == 0) return result;
  const double mu = score.unit_seconds / score.failures / model.job_nodes;
  const auto waste = [&](double recall, double alarms_per_failure) {
    const double missed = std::max(1 - recall, 0.001);  // T must stay finite
    const double period = std::sqrt(2 * mu * model.checkpoint_s / missed);
    const double lost = (1 - recall) * (period / 2 + model.downtime_s + model.recovery_s) +
                        alarms_per_failure * model.migration_s;
    return std::min(1.0, model.checkpoint_s / period + lost / mu);
  };
  result.waste_without = waste(0, 0);
  result.waste_with = waste(score.recall(), (score.right + score.wrong) / score.failures);
  result.quarantine = score.degraded_share() * (1 - model.spare);
  result.node_hours = (result.waste_without - result.waste_with - result.quarantine) *
                      score.unit_seconds / 3600;
  return result;
}

}  // namespace lifeboat::predictor
