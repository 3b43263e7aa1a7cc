// outcome.hpp - migrations whose end is not known here: after a lost answer, or a restart of the
// daemon.
#pragma once

#include "node.hpp"

namespace lifeboat {

// One request to another node, over every fabric in turn, the first that works.
awaitable<Result<json::object>> ask_node(Node& node, std::string name, std::string method,
                                         json::object params);

// Asks the target how the migration ended until it answers, over every fabric in turn; kInDoubt when
// it has not after `attempts_max` times, 200 ms apart (after ten, 2 s).
inline constexpr std::size_t kUntilItAnswers = ~std::size_t{0};
awaitable<Outcome> ask_outcome(Node& node, const std::string& target, const std::string& migration,
                               std::size_t attempts_max = kUntilItAnswers);

// For a container whose migration the daemon did not survive and which lives here: at the source
// before its commit was sent, at the target after the commit was recorded. Waits until CRIU, which
// ends by itself without its daemon, has let go, and thaws it.
awaitable<void> resume_left_over(std::shared_ptr<Container> container);

// For a container found in doubt after a restart of the daemon: asks the target and acts.
awaitable<void> resolve(Node& node, std::shared_ptr<Container> container);

}  // namespace lifeboat
