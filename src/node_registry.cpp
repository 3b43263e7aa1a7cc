// What a node has to do with the registry.
#include <algorithm>

#include "base/log.hpp"
#include "events.hpp"
#include "migration/outcome.hpp"
#include "node.hpp"
#include "registry/decide.hpp"
#include "registry/measured.hpp"

namespace lifeboat {

void Node::set_registry(std::unique_ptr<Registry> registry) {
  registry_ = std::make_unique<MeasuredRegistry>(std::move(registry), metrics_);
  owners_.emplace(*registry_, config_.registry.timeout);
}

Node::DecisionHold Node::hold_decision(const std::string& migration, Deciding machines) {
  deciding_[migration] = std::move(machines);
  return DecisionHold(this, migration);
}

const Node::Deciding* Node::deciding(const std::string& migration) const {
  const auto at = deciding_.find(migration);
  return at == deciding_.end() ? nullptr : &at->second;
}

bool Node::undecided() const {
  return std::any_of(deciding_.begin(), deciding_.end(), [](const auto& item) {
    return item.second.target && item.second.target->undecided();
  });
}

void Node::set_starting(const std::string& id, bool starting) {
  if (starting) {
    starting_.insert(id);
  } else {
    starting_.erase(id);
  }
}

awaitable<void> Node::reconcile_here(std::shared_ptr<Container> container, const OwnerRecord* record) {
  const std::string& id = container->spec().id;
  if (find(id) != container) co_return;
  const bool mine = record != nullptr && !record->ownership.ended && record->ownership.owner == name_;
  if (mine) {
    container->set_epoch(record->ownership.epoch);
    const auto& migration = record->ownership.migration;
    const bool open = migration && migration->state == MigrationState::kOpen;
    // Decided without the registry: it runs here, so it was not committed.
    if (open && container->state() == ContainerState::kRunning) {
      (void)co_await owners_->abort(*record, migration->id);
    }
    co_return;
  }
  if (record == nullptr) {
    auto claimed = co_await owners_->claim(id, container->spec().job, name_);
    if (claimed) {
      container->set_epoch(claimed->ownership.epoch);
      log::info("claimed a container that the registry did not know", {{"container", id}});
    }
    co_return;
  }
  if (find(id) != container || container->state() != ContainerState::kRunning) co_return;
  const std::string reason = record->ownership.ended
                                 ? std::string("it was given up while this node was cut off")
                                 : "it belongs to node " + record->ownership.owner;
  log::error(events::kContainerDestroyed, "a container that is not this node's any more is ended",
             {{"container", id}, {"reason", reason + " by the registry"}});
  ExitedContainer ended{id, container->spec().job, std::nullopt, container->output(0).value_or(""), reason};
  remember_exit(std::move(ended));
  remove(id);
  container->destroy();
}

awaitable<void> Node::leave_to_target(Ownership owned) {
  if (!left_to_target_.insert(owned.container).second) co_return;
  const OwnedMigration& migration = *owned.migration;
  log::warn("started again without a container that was on its way: its target may have it",
            {{"container", owned.container}, {"migration", migration.id}, {"target", migration.target}});
  AskTarget ask = [this, id = migration.id, target = migration.target] { return ask_target(*this, target, id, false); };
  const bool lost = co_await give_up(*owners_, name_, owned.container, migration.id, std::move(ask));
  left_to_target_.erase(owned.container);
  if (lost) tell_lost(owned);
}

void Node::tell_lost(const Ownership& owned) {
  log::error(events::kContainerLost, "a container of this node is lost: the registry has it, but it is not here any more",
             {{"container", owned.container}, {"job", owned.job}});
  ExitedContainer ended{owned.container, owned.job, std::nullopt, "",
                        "node " + name_ + " started again without it"};
  remember_exit(std::move(ended));
}

awaitable<Status> Node::compare_with_registry() {
  constexpr std::chrono::hours kEndedKept{24 * 7};
  // These first: what runs here before the records are read is this node's by them, or never again.
  std::vector<std::shared_ptr<Container>> running;
  for (const auto& [id, container] : containers_) {
    if (container->state() == ContainerState::kRunning) running.push_back(container);
  }
  CO_TRY(const std::vector<OwnerRecord> records, co_await owners_->of_node(name_));
  std::map<std::string, const OwnerRecord*> by_id;
  for (const OwnerRecord& record : records) by_id[record.ownership.container] = &record;
  for (const std::shared_ptr<Container>& container : running) {
    if (const auto at = by_id.find(container->spec().id); at != by_id.end()) {
      co_await reconcile_here(container, at->second);
      continue;
    }
    CO_TRY(const std::optional<OwnerRecord> other, co_await owners_->find(container->spec().id));
    co_await reconcile_here(container, other ? &*other : nullptr);
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  for (const OwnerRecord& record : records) {
    const Ownership& owned = record.ownership;
    if (owned.owner != name_) continue;
    if (owned.ended) {
      if (now - Milliseconds(owned.changed_ms) > kEndedKept) (void)co_await owners_->forget(record);
      continue;
    }
    if (find(owned.container) || starting_.contains(owned.container)) continue;
    // It may have left, or ended, since the records were read.
    CO_TRY(const std::optional<OwnerRecord> again, co_await owners_->find(owned.container));
    if (!again || again->version != record.version || find(owned.container)) continue;
    if (owned.migration && owned.migration->state == MigrationState::kOpen) {
      run_detached(executor_, "leaving a container to its target", leave_to_target(owned));
      continue;
    }
    const bool ended_here = std::any_of(exited_.begin(), exited_.end(), [&](const ExitedContainer& ended) {
      return ended.id == owned.container;
    });
    if (!ended_here) tell_lost(owned);
    CO_CHECK_OK(co_await owners_->end(owned.container, name_));
  }
  co_return Status{};
}

awaitable<bool> Node::reconcile() {
  const Status compared = co_await compare_with_registry();
  if (!compared) {
    log::warn("this node's containers could not be compared with the registry",
              {{"reason", compared.error().message}});
  }
  co_return compared.has_value();
}

// What could not be plugged in when it came to run.
void Node::plug_in_again(Container& container) {
  auto state = container.net().state();
  if (!state || *state == PlugState::kPlugged) return;
  auto plugged = container.net().plug();
  log::warn("a container was not on the network",
            {{"container", container.spec().id}, {"now", plugged ? "it is" : plugged.error().message}});
}

awaitable<void> Node::look_after_containers() {
  constexpr std::chrono::seconds kPause{30};
  for (;;) {
    co_await sleep_for(kPause);
    sweep_images();
    bool registry_answers = true;
    for (const auto& [id, container] : Containers(containers_)) {
      if (container->state() != ContainerState::kRunning) continue;
      plug_in_again(*container);
      if (!registry_answers) continue;
      auto record = co_await owners_->find(id);
      registry_answers = record.has_value();
      if (record) co_await reconcile_here(container, *record ? &**record : nullptr);
    }
  }
}

}  // namespace lifeboat
