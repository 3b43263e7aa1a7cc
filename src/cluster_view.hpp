// cluster_view.hpp - what the nodes say of themselves, as planners take it. The view is the list that
// `lifeboat nodes --json` shows: an object for each node, with what it answered to node.info.
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"
#include "planner.hpp"

namespace lifeboat {

// The objects in the array `key`; none if there is no such array.
[[nodiscard]] std::vector<const json::object*> objects_of(const json::object& parent,
                                                          std::string_view key);
// The members of the object `key` that are objects themselves; none if there is no such object.
[[nodiscard]] json::object members_of(const json::object& parent, std::string_view key);

// A node's answer to node.info.
NodeRoom room_from(const std::string& name, const json::object& info);

// The containers on node `from` that can leave it. Those that are on the move already are skipped and
// named. kUnavailable: it does not answer.
Result<std::vector<std::string>> leavers_from(const json::array& view, const std::string& from,
                                              json::array& skipped);

// {"containers": all that the nodes have, "unreachable": names of those that do not say}.
[[nodiscard]] json::object containers_of(const json::array& view);

}  // namespace lifeboat
