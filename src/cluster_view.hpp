// cluster_view.hpp - what the nodes say of themselves, as planners take it. The view is the list that
// `lifeboat nodes --json` shows: an object for each node, with what it answered to node.info.
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"
#include "planner.hpp"

namespace lifeboat {

// A node's answer to node.info.
NodeRoom room_from(const std::string& name, const json::object& info);

// The compute nodes that answered and can take containers, or say why not. What is on its way to a node
// but not yet there is subtracted.
std::vector<NodeRoom> rooms_of(const json::array& view);

// What lives on node `from`. Those that are on the move already are skipped and named. kUnavailable: it
// does not answer.
Result<std::vector<Leaver>> leavers_from(const json::array& view, const std::string& from,
                                         json::array& skipped);

}  // namespace lifeboat
