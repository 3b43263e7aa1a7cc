// source.hpp - the source's side of a migration.
#pragma once

#include "migration/phase.hpp"

namespace lifeboat {

// Moves a container to another node. When it returns, move.report says how it ended, and the
// container runs in exactly one place: at the target (kCommitted) or here (kAborted).
// Returns only then: while the target's answer to Commit is unknown it goes on asking, and the
// container stays frozen here (kInDoubt).
awaitable<Status> migrate(Node& node, Move move);

// For a container whose migration the daemon did not survive and which lives here: at the source
// before its commit was sent, at the target after the commit was recorded. Waits until CRIU, which ends by itself without its daemon, has let go, and thaws it.
awaitable<void> resume_left_over(std::shared_ptr<Container> container);

// For a container found in doubt after a restart of the daemon: asks the target and acts.
awaitable<void> resolve(Node& node, std::shared_ptr<Container> container);

}  // namespace lifeboat
