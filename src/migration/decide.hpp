// decide.hpp - decides the migrations of this node, with its containers.
#pragma once

#include "node.hpp"
#include "registry/decide.hpp"

namespace lifeboat {

// As in registry/decide.hpp, with this node's registry and its peers; while it goes on operators and peers
// find `machine` in Node.
awaitable<decision::Source::State> decide_at_source(Node& node, Decision decision,
                                                    std::shared_ptr<decision::Source> machine);

// For a container that is in doubt at its source though nothing decides it any more, because of `why`: the
// daemon was restarted. Whether the target has it.
awaitable<bool> resolve(Node& node, std::shared_ptr<Container> container, std::string why);
// The same for one that had not been decided at its target.
awaitable<void> resolve_arrival(Node& node, std::shared_ptr<Container> container);

// The container is frozen here, belongs elsewhere, and may be needed for its pages still.
awaitable<void> end_left_over(Node& node, std::shared_ptr<Container> container);

}  // namespace lifeboat
