#include "migration/decide.hpp"

#include "base/log.hpp"
#include "migration/drain.hpp"
#include "migration/outcome.hpp"

namespace lifeboat {

namespace {

constexpr Milliseconds kLook{200};
constexpr Milliseconds kLookLater{2000};
constexpr unsigned kLooksSoon = 50;

// What the registry says now; an error: it does not answer.
awaitable<Result<Verdict>> look(Node& node, Decision& decision) {
  CO_TRY(std::optional<OwnerRecord> found, co_await node.owners().find(decision.container));
  std::optional<Ownership> ownership;
  if (found) ownership = found->ownership;
  const Verdict verdict = judge(ownership, decision.migration, decision.epoch);
  if (found) decision.record = std::move(*found);
  co_return verdict;
}

std::uint64_t version_of(const Decision& decision) {
  return decision.record ? decision.record->version : kAbsent;
}

awaitable<decision::Word> ask_target(Node& node, const Decision& decision) {
  json::object params{{"id", decision.migration}, {"renounce", true}};
  auto answer = co_await ask_node(node, decision.target, "migration.outcome", std::move(params));
  if (!answer) co_return decision::Word::kSilent;
  const std::string outcome = string_or(*answer, "outcome");
  if (outcome == to_string(Outcome::kCommitted)) co_return decision::Word::kCommitted;
  if (outcome == to_string(Outcome::kAborted)) co_return decision::Word::kRenounced;
  co_return decision::Word::kUndecided;
}

awaitable<void> ask(Node& node, Decision& decision, decision::Source& machine, std::string& known) {
  auto verdict = co_await look(node, decision);
  if (verdict) machine.registry_says(*verdict, version_of(decision));
  known = verdict ? std::string("the registry says ") + to_string(*verdict) : verdict.error().message;
  if (machine.state() != decision::Source::State::kWaiting || (verdict && *verdict != Verdict::kUnknown))
    co_return;
  const decision::Word word = co_await ask_target(node, decision);
  machine.target_says(word);
  known +=
      word == decision::Word::kSilent ? "; the target does not answer" : "; the target has not decided";
}

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
  using Do = decision::Source::Do;
  machine->wants_back();
  const Node::DecisionHold hold = node.hold_decision(decision.migration, {machine, nullptr});
  std::string known;
  for (unsigned asked = 0;; ++asked) {
    switch (machine->next()) {
      case Do::kListen:
      case Do::kRunHere:
      case Do::kEndHere:
        co_return machine->state();
      case Do::kWriteAbort: {
        if (!decision.record) {  // the version is from it
          machine->abort_written(decision::Written::kNo);
          break;
        }
        OwnerRecord record = *decision.record;
        const decision::Written written =
            co_await node.owners().abort(std::move(record), decision.migration);
        machine->abort_written(written);
        break;
      }
      case Do::kAsk:
        if (asked > 1) co_await sleep_for(asked < kLooksSoon ? kLook : kLookLater);
        co_await ask(node, decision, *machine, known);
        break;
    }
    if (asked == kLooksSoon / 10 && machine->state() == decision::Source::State::kWaiting) {
      log::warn("a migration is in doubt: the container stays frozen until its outcome is known",
                {{"migration", decision.migration},
                 {"container", decision.container},
                 {"known", known},
                 {"see", "lifeboat resolve " + decision.migration}});
    }
  }
}

awaitable<void> withdraw(Node& node, std::string container, std::string migration) {
  for (;;) {
    auto now = co_await node.owners().find(container);
    if (now && (!*now || judge((*now)->ownership, migration, kAbsent) != Verdict::kOpen)) co_return;
    if (now) {
      OwnerRecord record = **now;
      const decision::Written written = co_await node.owners().abort(std::move(record), migration);
      if (written == decision::Written::kYes) co_return;
    }
    co_await sleep_for(kLookLater);
  }
}

awaitable<void> step_at_target(Node& node, Decision& decision, decision::Target& machine) {
  if (machine.next() == decision::Target::Do::kWriteCommit && decision.record) {
    OwnerRecord record = *decision.record;
    machine.commit_begins();
    machine.commit_written(co_await node.owners().commit(std::move(record), decision.migration));
    co_return;
  }
  auto verdict = co_await look(node, decision);
  if (!verdict) {
    co_await sleep_for(kLook);
    co_return;
  }
  auto alive = co_await node.owners().node_alive(decision.source);
  machine.registry_says(*verdict, version_of(decision), alive.value_or(true));
  const bool waits = machine.next() == decision::Target::Do::kLook;
  if (waits) co_await sleep_for(kLook);
}

awaitable<void> end_left_over(Node& node, std::shared_ptr<Container> container) {
  // In post-copy it still needs pages.
  (void)container->set_state(ContainerState::kDraining, container->migration(),
                             container->migration_peer());
  co_await finish_draining(node, std::move(container));
}

awaitable<void> resolve(Node& node, std::shared_ptr<Container> container) {
  Decision decision = decision_of(*container, node.name(), container->migration_peer());
  auto machine = std::make_shared<decision::Source>(kAbsent);
  const auto state = co_await decide_at_source(node, decision, machine);
  const bool committed = state == decision::Source::State::kCommitted;
  const Outcome outcome = committed ? Outcome::kCommitted : Outcome::kAborted;
  log::info("in-doubt migration resolved", {{"migration", decision.migration},
                                            {"container", decision.container},
                                            {"outcome", to_string(outcome)}});
  node.journal().add(entry_of(decision, *container, "source", outcome,
                              "found in doubt by a restarted lifeboatd; " +
                                  (committed ? "it runs on " + decision.target : "it runs on here")));
  if (committed) {
    co_await end_left_over(node, container);
  } else {
    asio::co_spawn(node.executor(), withdraw(node, decision.container, decision.migration), asio::detached);
    co_await resume_left_over(container);
  }
}

awaitable<void> resolve_arrival(Node& node, std::shared_ptr<Container> container) {
  using Do = decision::Target::Do;
  Decision decision = decision_of(*container, container->migration_peer(), node.name());
  auto machine = std::make_shared<decision::Target>();
  machine->resumed();
  {
    const Node::DecisionHold hold = node.hold_decision(decision.migration, {nullptr, machine});
    while (machine->next() == Do::kLook || machine->next() == Do::kWriteCommit) {
      co_await step_at_target(node, decision, *machine);
    }
  }
  const bool committed = machine->state() == decision::Target::State::kCommitted;
  const Outcome outcome = committed ? Outcome::kCommitted : Outcome::kAborted;
  (void)node.record_outcome(decision.migration, outcome);
  log::info("an arrival that a restart had left undecided is decided", {{"migration", decision.migration},
                                                                        {"container", decision.container},
                                                                        {"outcome", to_string(outcome)}});
  node.journal().add(
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
