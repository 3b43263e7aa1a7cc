// outcome.hpp - what another node knows of a migration, and what a restart of the daemon has left of one.
#pragma once

#include "node.hpp"

namespace lifeboat {

// One request to another node, over every fabric in turn, the first that works.
awaitable<Result<json::object>> ask_node(Node& node, std::string name, std::string method,
                                         json::object params);

// One question to the target: how has it ended, for it? With `renounce` it is to give it up if it can.
awaitable<decision::Word> ask_target(Node& node, std::string target, std::string migration, bool renounce);

// Until the target has removed what an attempt left there, for 2 s at most.
awaitable<void> wait_until_removed(Node& node, std::string target, std::string migration);

// Of a migration that an earlier daemon has begun here and whose container is not here any more: its end, in
// the journal, once the registry or the target says whether it was committed.
awaitable<void> find_out_end(Node& node, JournalEntry entry);

// For a container whose migration the daemon did not survive and which is known to live here. Waits until
// CRIU, which ends by itself without its daemon, has let go, and thaws it.
awaitable<void> resume_left_over(std::shared_ptr<Container> container);

}  // namespace lifeboat
