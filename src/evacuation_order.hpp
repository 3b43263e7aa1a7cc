// evacuation_order.hpp - in which order the containers of a node leave it. Part of the planner
// (evacuation_plan.hpp).
#pragma once

#include <vector>

#include "evacuation_timing.hpp"

namespace lifeboat::evacuation {

enum class Order {
  // Most ranks saved per second first, a job's containers on the node together: the greedy answer
  // to
  // the knapsack problem (Dantzig, "Discrete-Variable Extremum Problems", 1957). What does not fit
  // in
  // the time that is left comes last, so that what follows is not lost with it.
  kMostSaved,
  // Largest first: the list schedule that ends soonest on several wires (Graham, "Bounds on
  // Multiprocessing Timing Anomalies", 1969).
  kLongest,
};
[[nodiscard]] const char* to_string(Order order);

// Per source, the trips that have a target.
[[nodiscard]] std::vector<std::vector<Index>> queues(const Model& model,
                                                     const std::vector<Trip>& trips, Order order);

}  // namespace lifeboat::evacuation
