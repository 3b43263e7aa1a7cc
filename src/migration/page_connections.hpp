// page_connections.hpp - the connections from a source to the pager of a container at its target.
#pragma once

#include <string>
#include <vector>

#include "node.hpp"

namespace lifeboat {

struct OpenedConnections {
  std::vector<Fd> shards;  // engine.connections of them
  Fd urgent;               // in post-copy: for pages that are waited for
};

// Each is greeted, announced and taken over by the pager. kNotFound: no container waits for pages by
// this migration at `address` (any more).
awaitable<Result<OpenedConnections>> open_page_connections(const Node& node, std::string address,
                                                           std::string migration, bool urgent);

}  // namespace lifeboat
