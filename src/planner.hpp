// planner.hpp - which node gets which container. Pure: looks at values, returns values.
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

// A node for each of `containers` containers of `memory_bytes`: in turn over the nodes, so that a
// job is spread as widely as it can be; nodes that are closed or without room are passed over. `wanted` (may be
// empty) names the only nodes allowed. kRefused saying which nodes lack what.
Result<std::vector<std::string>> place(std::vector<NodeRoom> nodes, unsigned containers,
                                       std::uint64_t memory_bytes,
                                       const std::vector<std::string>& wanted);

// A container that is to leave its node.
struct Leaver {
  std::string id;
  std::string node;
  std::uint64_t memory_bytes = 0;
};

// Another node for each, in the same order: none that any of them leaves, none that is closed; of those
// with room the one
// that gets the fewest of them, and then the one with the most memory left. The large ones choose
// first. kRefused naming the first that finds no room, and what the nodes have left.
Result<std::vector<std::string>> place_leavers(std::vector<NodeRoom> nodes,
                                               const std::vector<Leaver>& leavers);

// `count` container addresses of a fabric that are neither in `used` nor a node's own: counted up
// from network + 256 (+ 64 in networks smaller than /22). kRefused when the subnet is full.
Result<std::vector<std::string>> free_addresses(const FabricConfig& fabric, unsigned count,
                                                const std::set<std::string>& used);

}  // namespace lifeboat
