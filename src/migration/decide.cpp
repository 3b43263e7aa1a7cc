#include "migration/decide.hpp"

#include "base/log.hpp"
#include "events.hpp"
#include "migration/drain.hpp"
#include "migration/outcome.hpp"

namespace lifeboat {

namespace {

Decision decision_of(const Container& container, const std::string& source, const std::string& target) {
  Decision decision;
  decision.migration = container.migration();
  decision.container = container.spec().id;
  decision.source = source;
  decision.target = target;
  decision.epoch = container.epoch();
  return decision;
}

JournalEntry entry_of(const Decision& decision, const Container& container, const char* side,
                      Outcome outcome, std::string reason) {
  return {decision.migration, decision.container, container.spec().job,
          decision.source,    decision.target,    side,
          to_string(outcome), std::move(reason)};
}

}  // namespace

awaitable<decision::Source::State> decide_at_source(Node& node, Decision decision,
                                                    std::shared_ptr<decision::Source> machine) {
  const Node::DecisionHold hold = node.hold_decision(decision.migration, {machine, nullptr});
  AskTarget ask = [&node, decision] { return ask_target(node, decision.target, decision.migration, true); };
  TellDoubt tell = [migration = decision.migration, container = decision.container](const std::string& known) {
    log::warn(events::kMigrationInDoubt,
              "a migration is in doubt: the container stays frozen until its outcome is known",
              {{"migration", migration},
               {"container", container},
               {"known", known},
               {"see", "lifeboat resolve " + migration}});
  };
  co_return co_await decide_at_source(node.owners(), std::move(decision), machine, std::move(ask),
                                      std::move(tell));
}

awaitable<void> end_left_over(Node& node, std::shared_ptr<Container> container) {
  // In post-copy it still needs pages.
  (void)container->set_state(ContainerState::kDraining, container->migration(),
                             container->migration_peer());
  co_await finish_draining(node, std::move(container));
}

awaitable<bool> resolve(Node& node, std::shared_ptr<Container> container, std::string why) {
  Decision decision = decision_of(*container, node.name(), container->migration_peer());
  auto machine = std::make_shared<decision::Source>(kAbsent);
  const auto state = co_await decide_at_source(node, decision, machine);
  const bool committed = state == decision::Source::State::kCommitted;
  const Outcome outcome = committed ? Outcome::kCommitted : Outcome::kAborted;
  log::info(events::kMigrationResolved, "in-doubt migration resolved",
            {{"migration", decision.migration},
             {"container", decision.container},
             {"outcome", to_string(outcome)}});
  node.journal().end(entry_of(decision, *container, "source", outcome,
                              why + "; " +
                                  (committed ? "it runs on " + decision.target : "it runs on here")));
  if (committed) {
    co_await end_left_over(node, container);
  } else {
    run_detached(node.executor(), "withdrawing an offer",
                 withdraw(node.owners(), decision.container, decision.migration));
    co_await resume_left_over(container);
  }
  co_return committed;
}

awaitable<void> resolve_arrival(Node& node, std::shared_ptr<Container> container) {
  using Do = decision::Target::Do;
  Decision decision = decision_of(*container, container->migration_peer(), node.name());
  auto machine = std::make_shared<decision::Target>();
  machine->resumed(node.recorded_outcome(decision.migration) == Outcome::kAborted);
  {
    const Node::DecisionHold hold = node.hold_decision(decision.migration, {nullptr, machine});
    while (machine->next() == Do::kLook || machine->next() == Do::kWriteCommit) {
      co_await step_at_target(node.owners(), decision, *machine);
    }
  }
  const bool committed = machine->state() == decision::Target::State::kCommitted;
  const Outcome outcome = committed ? Outcome::kCommitted : Outcome::kAborted;
  (void)node.record_outcome(decision.migration, outcome);
  log::info(events::kMigrationResolved, "an arrival that a restart had left undecided is decided",
            {{"migration", decision.migration},
             {"container", decision.container},
             {"outcome", to_string(outcome)}});
  node.metrics().arrival_ended(committed);
  node.journal().end(
      entry_of(decision, *container, "target", outcome, "found undecided by a restarted lifeboatd"));
  if (committed) {
    container->set_epoch(decision.epoch + 1);
    co_await resume_left_over(container);
    co_return;
  }
  node.remove(decision.container);
  container->destroy();
}

}  // namespace lifeboat
