#include "registry/decide.hpp"

namespace lifeboat {

Decision::Decision(OwnerRecord right)
    : migration(right.ownership.migration->id),
      container(right.ownership.container),
      source(right.ownership.migration->source),
      target(right.ownership.migration->target),
      epoch(right.ownership.epoch),
      record(std::move(right)) {}

namespace {

constexpr Milliseconds kLook{200};
constexpr Milliseconds kLookLater{2000};
constexpr unsigned kLooksSoon = 50;
constexpr unsigned kDoubtAfter = 5;  // looks

// What the registry says now; an error: it does not answer.
awaitable<Result<std::optional<Ownership>>> look(Owners& owners, Decision& decision) {
  CO_TRY(std::optional<OwnerRecord> found, co_await owners.find(decision.container));
  std::optional<Ownership> ownership;
  if (found) {
    ownership = found->ownership;
    decision.record = std::move(*found);
  }
  co_return ownership;
}

std::uint64_t version_of(const Decision& decision) {
  return decision.record ? decision.record->version : kAbsent;
}

// Asks the registry, and the target if that does not decide. What is known then, in words.
awaitable<std::string> ask_both(Owners& owners, Decision& decision, decision::Source& machine, AskTarget& ask) {
  auto record = co_await look(owners, decision);
  std::string known = record ? "" : record.error().message;
  if (record) {
    const Verdict verdict = judge_for_source(*record, decision.migration, decision.epoch);
    machine.registry_says(verdict, version_of(decision));
    known = std::string("the registry says ") + to_string(verdict);
    if (verdict != Verdict::kUnknown) co_return known;
  }
  if (machine.state() != decision::Source::State::kWaiting) co_return known;
  const decision::Word word = co_await ask();
  machine.target_says(word);
  co_return known + (word == decision::Word::kSilent ? "; the target does not answer"
                                                     : "; the target has not decided");
}

}  // namespace

awaitable<decision::Source::State> decide_at_source(Owners& owners, Decision decision,
                                                    std::shared_ptr<decision::Source> machine, AskTarget ask,
                                                    TellDoubt tell) {
  using Do = decision::Source::Do;
  machine->wants_back();
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
        const decision::Written written = co_await owners.abort(std::move(record), decision.migration);
        machine->abort_written(written);
        break;
      }
      case Do::kAsk:
        if (asked > 1) co_await sleep_for(asked < kLooksSoon ? kLook : kLookLater);
        known = co_await ask_both(owners, decision, *machine, ask);
        break;
    }
    const bool waits = machine->state() == decision::Source::State::kWaiting;
    if (asked == kDoubtAfter && waits) tell(known);
  }
}

awaitable<void> step_at_target(Owners& owners, Decision& decision, decision::Target& machine) {
  if (machine.next() == decision::Target::Do::kWriteCommit && decision.record) {
    OwnerRecord record = *decision.record;
    machine.commit_begins();
    machine.commit_written(co_await owners.commit(std::move(record), decision.migration));
    co_return;
  }
  auto record = co_await look(owners, decision);
  if (!record) {
    co_await sleep_for(kLook);
    co_return;
  }
  const Verdict verdict = judge_for_target(*record, decision.migration);
  auto alive = co_await owners.node_alive(decision.source);
  bool source_alive = alive.value_or(true);
  if (verdict == Verdict::kOpen) {
    const OwnedMigration& migration = *(*record)->migration;
    source_alive = migration.needs_source || (source_alive && !migration.source_gone);
  }
  machine.registry_says(verdict, version_of(decision), source_alive);
  if (machine.next() == decision::Target::Do::kLook) co_await sleep_for(kLook);
}

awaitable<bool> give_up(Owners& owners, std::string node, std::string container, std::string migration,
                        AskTarget ask) {
  for (;;) {
    auto now = co_await owners.find(container);
    if (now) {
      const bool mine = *now && (*now)->ownership.owner == node;
      if (!mine) co_return false;
      OwnerRecord record = **now;
      const Ownership& owned = record.ownership;
      if (owned.ended || !owned.migration || owned.migration->id != migration) co_return false;
      const OwnedMigration moved = *owned.migration;
      const bool open = moved.state == MigrationState::kOpen;
      bool over = false;  // nobody has it, or can have it
      if (open && moved.needs_source) {
        (void)co_await owners.abort(std::move(record), migration);  // the pages that the target needs are gone
      } else if (open && !moved.source_gone) {
        (void)co_await owners.yield(std::move(record), migration);
      } else {
        over = !open || co_await ask() == decision::Word::kRenounced;
      }
      if (over && co_await owners.end(container, node)) co_return true;
    }
    co_await sleep_for(kLook);
  }
}

awaitable<void> withdraw(Owners& owners, std::string container, std::string migration) {
  for (;;) {
    auto now = co_await owners.find(container);
    if (now && (!*now || judge_for_target((*now)->ownership, migration) != Verdict::kOpen)) co_return;
    if (now) {
      OwnerRecord record = **now;
      const decision::Written written = co_await owners.abort(std::move(record), migration);
      if (written == decision::Written::kYes) co_return;
    }
    co_await sleep_for(kLookLater);
  }
}

}  // namespace lifeboat
