// decide.hpp - drives the decisions of decision.hpp: asks the registry and the target again and again, for as
// long as it takes. Knows nothing of processes and connections; migration/decide.hpp puts them to it, and so
// does the simulation (tests/sim).
#pragma once

#include <functional>

#include "registry/owners.hpp"

namespace lifeboat {

// A migration that is to be decided: as its right says, or what is known of it after a restart.
struct Decision {
  Decision() = default;
  explicit Decision(OwnerRecord right);

  std::string migration;
  std::string container;
  std::string source;
  std::string target;
  std::uint64_t epoch = 0;           // of the record when it was offered
  std::optional<OwnerRecord> record;  // as last seen
};

// Asks the target how the migration ended. In a source's doubt it is to renounce if it can.
using AskTarget = std::function<awaitable<decision::Word>()>;
// Told once, after a second or more without an outcome: what is known.
using TellDoubt = std::function<void(const std::string& known)>;

// The source's side, from the moment it wants the container back: returns how it ended.
awaitable<decision::Source::State> decide_at_source(Owners& owners, Decision decision,
                                                    std::shared_ptr<decision::Source> machine, AskTarget ask,
                                                    TellDoubt tell);

// One step of the target's side that needs the registry: kWriteCommit or kLook.
awaitable<void> step_at_target(Owners& owners, Decision& decision, decision::Target& machine);

// A migration that nobody can commit any more need not look open in the registry: until it does not.
awaitable<void> withdraw(Owners& owners, std::string container, std::string migration);

// The node, a source, has started again without a container that the migration might still commit at its target:
// leaves it to the target. True when that has not got it, either: the container is lost. `ask`: the target is
// not to renounce.
awaitable<bool> give_up(Owners& owners, std::string node, std::string container, std::string migration,
                        AskTarget ask);

}  // namespace lifeboat
