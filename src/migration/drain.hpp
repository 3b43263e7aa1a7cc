// drain.hpp - post-copy after the commit, at the source: the container runs elsewhere and still needs
// pages from here.
//
//   source                                        target
//   frozen for ever, off the network              runs; a missing page pauses the thread that wants it
//   PageServer: wanted pages, then all   ---->    pager
//   done: removed
//
// A lost connection pauses the copy at its next missing page; the source connects again, for as long
// as both ends live, and the pager says what it lacks. So does a restarted daemon, at either end. A
// page that cannot be read any more here (somebody has killed the frozen tasks) ends the copy: it
// would wait for ever. The loss of this node does the same; that is the price of the mode.
#pragma once

#include <memory>

#include "migration/page_server.hpp"
#include "node.hpp"

namespace lifeboat {

// Returns once the target needs nothing from here, or can get nothing any more. `server` may be null:
// then it begins by connecting. `container` is frozen, and is so afterwards.
awaitable<void> drain(Node& node, std::shared_ptr<Container> container,
                      std::shared_ptr<MigrationReport> report, std::unique_ptr<PageServer> server);

// For a container that an earlier daemon of this node left draining.
awaitable<void> finish_draining(Node& node, std::shared_ptr<Container> container);

}  // namespace lifeboat
