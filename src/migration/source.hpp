// source.hpp - the source's side of a migration.
#pragma once

#include "migration/phase.hpp"

namespace lifeboat {

// Moves a container, which is in state kLeaving, to another node, as soon as its turn has come.
// When it returns, move.report says how it ended, and the container runs in exactly one place: at the
// target (kCommitted) or here (kAborted).
// Returns only then: from the moment the target has the right to commit until the outcome is known the
// container stays frozen here (kInDoubt).
awaitable<void> migrate(Node& node, Move move);

// Makes every check and every connection of this migration, watches the container's writes for a
// second, and says what to expect in this mode: {container, fabric, mode, resident_bytes,
// dirty_bytes_per_s, downtime_ms, rounds, total_ms}. Nothing is moved, and no migration of it can begin
// meanwhile.
awaitable<Result<json::object>> predict(Node& node, Move move, MigrationMode mode);

}  // namespace lifeboat
