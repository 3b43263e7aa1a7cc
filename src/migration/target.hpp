// target.hpp - the target's side of a migration.
#pragma once

#include "migration/link.hpp"
#include "node.hpp"

namespace lifeboat {

// Serves one migration on a connection whose peer has just sent `offer`. When it returns the
// container either runs here and is counted in `node`, or nothing is left of it.
awaitable<void> serve_migration(Node& node, Link link, json::object offer);

// Gives a connection whose peer has just sent `pages` to the pager of its migration.
awaitable<Status> take_page_connection(Node& node, Link link, json::object pages, Milliseconds limit);

// After a restart of the daemon: follows the pager of a container that is still being filled.
awaitable<void> adopt_pager(Node& node, std::shared_ptr<Container> container);

}  // namespace lifeboat
