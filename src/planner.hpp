// planner.hpp - where the containers of a new job start, and with which addresses; how they leave a node
// is in evacuation_plan.hpp. Pure: looks at values, returns values.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "config.hpp"

namespace lifeboat {

// One compute node as it said of itself.
struct NodeRoom {
  std::string name;
  std::uint64_t memory_free_bytes = 0;
  unsigned slots_free = 0;
  std::string closed = "";  // why it takes none now; empty: it does
};

// A node for each of `containers` containers of `memory_bytes`: in turn over the nodes, so that a job
// is spread as widely as it can be; nodes that are closed or without room are passed over. `wanted`
// (may be empty) names the only nodes allowed. kRefused saying which nodes lack what.
Result<std::vector<std::string>> place(std::vector<NodeRoom> nodes, unsigned containers,
                                       std::uint64_t memory_bytes,
                                       const std::vector<std::string>& wanted);

// `count` container addresses of a fabric that are neither in `used` nor a node's own: counted up
// from network + 256 (+ 64 in networks smaller than /22). kRefused when the subnet is full.
Result<std::vector<std::string>> free_addresses(const FabricConfig& fabric, unsigned count,
                                                const std::set<std::string>& used);

}  // namespace lifeboat
