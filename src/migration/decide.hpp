// decide.hpp - drives the decisions of registry/decision.hpp against the real registry and the real peer.
#pragma once

#include "node.hpp"
#include "registry/owners.hpp"

namespace lifeboat {

// A migration that one of this node's machines decides; found by operators and peers in Node.
struct Decision {
  std::string migration;
  std::string container;
  std::string source;
  std::string target;
  std::uint64_t epoch = 0;           // of the record when it was offered
  std::optional<OwnerRecord> record;  // as last seen
};

// The source's side, from the moment it wants the container back: returns how it ended, however long that
// takes. Everything it waits for is asked again and again.
awaitable<decision::Source::State> decide_at_source(Node& node, Decision decision,
                                                  std::shared_ptr<decision::Source> machine);

// A migration that nobody can commit any more need not look open in the registry: until it does not.
awaitable<void> withdraw(Node& node, std::string container, std::string migration);

// One step of the target's side that needs the registry: kWriteCommit or kLook.
awaitable<void> step_at_target(Node& node, Decision& decision, decision::Target& machine);

// After a restart of the daemon. For a container found in doubt at its source, and for one that had not
// been decided at its target.
awaitable<void> resolve(Node& node, std::shared_ptr<Container> container);
awaitable<void> resolve_arrival(Node& node, std::shared_ptr<Container> container);

// The container is frozen here, belongs elsewhere, and may be needed for its pages still.
awaitable<void> end_left_over(Node& node, std::shared_ptr<Container> container);

}  // namespace lifeboat
