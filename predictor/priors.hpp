// priors.hpp - what an event is worth before anything was learned: P(the node fails within the horizon).
//
// Ours, chosen so that texts alone never degrade a node however many there are (16 different critical
// messages stay below the default threshold), and that what hardware or an operator says of itself does.
#pragma once

#include "predictor/event.hpp"

namespace lifeboat::predictor {

// 0: says nothing about the node's future.
[[nodiscard]] double prior_of(EventKind kind, Severity severity);

}  // namespace lifeboat::predictor
