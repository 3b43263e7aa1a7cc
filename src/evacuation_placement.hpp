// evacuation_placement.hpp - a target and a fabric for each container that is to leave. Part of the
// planner (evacuation_plan.hpp).
#pragma once

#include <string>
#include <vector>

#include "evacuation_timing.hpp"

namespace lifeboat::evacuation {

// Targets in the order of `order`, one per leaver; kNone for those without room. Balanced: the
// target that is ready first, with what it costs in spread. Tight: where the least memory is left
// over.
enum class Fit { kBalanced, kTight };
[[nodiscard]] std::vector<Index> choose_targets(const Model& model, const std::vector<Index>& order,
                                                Fit fit);

// For each trip with a target the fabric over which it would be through first, were everything
// before it sent already; the largest choose first.
void choose_fabrics(const Model& model, std::vector<Trip>& trips);

// Why each that stays found no place, given where the others go; "" for the others.
[[nodiscard]] std::vector<std::string> explain_unplaced(const Model& model,
                                                        const std::vector<Index>& targets);

// What speaks for the target of each, "" without one.
[[nodiscard]] std::vector<std::string> explain_targets(const Model& model,
                                                       const std::vector<Index>& targets);

}  // namespace lifeboat::evacuation
