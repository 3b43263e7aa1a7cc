// evacuation_request.hpp - the cluster as the planner takes it (evacuation_plan.hpp), made of what the
// nodes say of themselves and of what earlier migrations took; and what speaks against moving anything.
#pragma once

#include <optional>
#include <string>

#include "base/json.hpp"
#include "config.hpp"
#include "evacuation_plan.hpp"
#include "node.hpp"
#include "predictor/event.hpp"

namespace lifeboat {

// `view`: the list that `lifeboat nodes --json` shows. Nodes that do not answer count as down.
evacuation::Request request_from(const Config& config, const json::array& view, predictor::Time now,
                                 evacuation::Evacuation leaving);

// What the migrations took that this node was the source of: the rate of each fabric, and the time that
// containers stood still.
void learn_from(const Node::Migrations& migrations, evacuation::Request& request);

// One storm must not empty the machine room: its cause is not in the nodes. What speaks for one, when a
// node was called degraded by the predictor at `since`: more nodes than evacuation.facility_nodes were
// within five minutes. Empty: nothing does.
std::string storm_text(const EvacuationConfig& config, const json::array& view, predictor::Time since);

}  // namespace lifeboat
