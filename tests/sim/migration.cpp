// Containers and their migrations: as src/migration does them, with delays for what takes time there.
#include <cstdio>

#include "sim/world.hpp"

namespace lifeboat::sim {

using Kind = Message::Kind;

namespace {

constexpr Micros kRestoreLimit = 60 * kSecond;
constexpr Micros kCommitLimit = 30 * kSecond;
constexpr double kFails = 0.01;  // each step that can
constexpr double kPostCopy = 0.25;  // of the migrations

const char* const kStateNames[] = {"running", "frozen", "in doubt", "held"};

template <class S>
const char* name_of(S state) {
  return kStateNames[static_cast<int>(state)];
}

}  // namespace

void World::tell(const std::string& container, const std::string& what) const {
  if (container != settings_.trace) return;
  std::printf("%10.4f %s\n", static_cast<double>(events_.now()) / static_cast<double>(kSecond), what.c_str());
}

void World::set(std::size_t node, const std::string& container, Copy copy) {
  if (copy.state == Copy::State::kRunning && (died_.contains(container) || died_with_owner(container))) {
    wrong_ = container + " runs on " + nodes_[node].name + " though its running copy died with another node";
  }
  tell(container, nodes_[node].name + ": " + name_of(copy.state) + " epoch " + std::to_string(copy.epoch) + " " +
                      copy.migration);
  nodes_[node].copies[container] = std::move(copy);
  where_[container].insert(node);
  check(container);
}

void World::drop(std::size_t node, const std::string& container, bool died) {
  const auto at = nodes_[node].copies.find(container);
  if (at == nodes_[node].copies.end()) return;
  if (died) {
    // Frozen: nobody has the right to it yet.
    const bool only = at->second.state == Copy::State::kRunning || at->second.state == Copy::State::kFrozen;
    if (only) died_.insert(container);
    if (at->second.state == Copy::State::kHeld) died_held_[container] = at->second.migration;
    if (at->second.state == Copy::State::kInDoubt) died_in_doubt_[container] = {nodes_[node].name, at->second.epoch};
  }
  tell(container, nodes_[node].name + (died ? ": gone with the node" : ": removed"));
  const bool could_run = !at->second.part;
  nodes_[node].copies.erase(at);
  std::set<std::size_t>& where = where_[container];
  where.erase(node);
  if (!where.empty()) return;
  where_.erase(container);
  if (died || !could_run) {
    ++counts_.lost;
  } else if (!died_.contains(container) && !given_up_.contains(container) && !died_with_owner(container)) {
    wrong_ = nodes_[node].name + " has removed the last copy of " + container;
  }
}

// Whether its owner by the registry died with it: a source in doubt that nobody takes it from, or a target that
// became the owner and was gone: before it heard of it, or before its request arrived.
bool World::died_with_owner(const std::string& container) {
  const auto entry = server_.get(ownership_key(container));
  const auto record = entry ? ownership_from(entry->value) : Result<Ownership>(fail(Errc::kNotFound, ""));
  if (!record) return false;
  const auto in_doubt = died_in_doubt_.find(container);
  if (in_doubt != died_in_doubt_.end() && in_doubt->second == std::pair(record->owner, record->epoch)) return true;
  const auto held = died_held_.find(container);
  return held != died_held_.end() && record->migration && record->migration->id == held->second &&
         record->migration->state == MigrationState::kCommitted;
}

void World::check(const std::string& container) {
  std::size_t running = 0;
  for (const std::size_t node : where_[container]) {
    if (nodes_[node].copies[container].state == Copy::State::kRunning) ++running;
  }
  if (running > 1) wrong_ = container + " runs more than once";
}

std::string World::check_quiet() {
  if (!wrong_.empty()) return wrong_;
  for (const auto& [container, where] : where_) {
    if (died_.contains(container)) return container + " died, and a copy of it is left";
    if (where.size() != 1) return container + " has " + std::to_string(where.size()) + " copies in the end";
    const Node& node = nodes_[*where.begin()];
    if (node.copies.at(container).state != Copy::State::kRunning) return container + " does not run in the end";
    const auto entry = server_.get(ownership_key(container));
    auto record = entry ? ownership_from(entry->value) : Result<Ownership>(fail(Errc::kNotFound, ""));
    if (!record || record->ended || record->owner != node.name) {
      return container + " runs on " + node.name + ", but not by the registry";
    }
  }
  return "";
}

awaitable<void> World::start_container(std::size_t node, DaemonPtr daemon, std::string container) {
  daemon->starting.insert(container);
  auto claimed = co_await daemon->owners->claim(container, "job", nodes_[node].name);
  daemon->starting.erase(container);
  if (daemon->ended || !claimed) co_return;
  Copy copy;
  copy.epoch = claimed->ownership.epoch;
  set(node, container, std::move(copy));
}

void World::begin_migration(const std::string& container, std::size_t to) {
  const auto where = where_.find(container);
  if (where == where_.end()) return;
  for (const std::size_t from : where->second) {
    Node& node = nodes_[from];
    Copy& copy = node.copies[container];
    if (copy.state != Copy::State::kRunning || copy.moving || !node.daemon || from == to) continue;
    copy.moving = true;
    ++counts_.begun;
    events_.spawn(migrate(from, node.daemon, container, to, "m" + std::to_string(++last_id_)));
    return;
  }
}

awaitable<void> World::withdraw_later(DaemonPtr daemon, std::string container, std::string id) {
  co_await withdraw(*daemon->owners, container, id);
}

awaitable<void> World::migrate(std::size_t from, DaemonPtr daemon, std::string container, std::size_t to,
                               std::string id) {
  Node& here = nodes_[from];
  const LinkPtr link = open_link(from, to);
  bool moved = false;
  auto now = co_await daemon->owners->find(container);  // as check_ownership()
  if (daemon->ended) co_return;
  const bool mine = now && *now && !(*now)->ownership.ended && (*now)->ownership.owner == here.name;
  std::optional<Message> accepted;
  if (mine && link) {
    send(link, 0, Message{Kind::kOffer, {}, false});
    Node& there = nodes_[to];
    if (there.daemon && connected(from, to)) {
      events_.spawn(arrive(to, there.daemon, container, id, link));
      accepted = co_await receive(link, 0, 5 * kSecond);
      if (daemon->ended) co_return;
    }
  }
  if (accepted && accepted->kind == Kind::kAccepted) {
    co_await events_.sleep(events_.between(20 * kMs, 3 * kSecond));  // pre-copy
    if (daemon->ended) co_return;
    auto fresh = co_await daemon->owners->find(container);
    if (daemon->ended) co_return;
    if (fresh && *fresh && link->open[0]) {
      OwnedMigration migration;
      migration.id = id;
      migration.source = here.name;
      migration.target = nodes_[to].name;
      migration.needs_source = events_.happens(kPostCopy);
      OwnerRecord record = **fresh;
      auto right = co_await daemon->owners->offer(std::move(record), std::move(migration));
      if (daemon->ended) co_return;
      if (right && here.copies.contains(container)) {
        moved = co_await give(from, daemon, container, to, id, link, *right);
        if (daemon->ended) co_return;
      }
    }
  }
  if (link) close(link, 0);
  if (moved) {
    ++counts_.committed;
    drop(from, container, false);
    co_return;
  }
  ++counts_.aborted;
  const auto at = here.copies.find(container);
  if (at != here.copies.end()) {
    at->second.moving = false;
    events_.spawn(withdraw_later(daemon, container, id));
  }
}

// From the freeze on. Whether the target has it.
awaitable<bool> World::give(std::size_t from, DaemonPtr daemon, std::string container, std::size_t to,
                            std::string id, LinkPtr link, OwnerRecord right) {
  Node& here = nodes_[from];
  const std::string target = nodes_[to].name;
  Copy copy = here.copies[container];
  copy.state = Copy::State::kFrozen;
  set(from, container, copy);
  co_await events_.sleep(events_.between(10 * kMs, 200 * kMs));  // dump
  if (daemon->ended) co_return false;
  if (events_.happens(kFails) || !link->open[0]) {
    copy.state = Copy::State::kRunning;
    set(from, container, copy);
    co_return false;
  }
  copy.state = Copy::State::kInDoubt;
  copy.migration = id;
  copy.peer = target;
  copy.epoch = right.ownership.epoch;
  set(from, container, copy);
  auto machine = std::make_shared<decision::Source>(right.version);
  daemon->waiting[id] = machine;
  send(link, 0, Message{Kind::kImageEnd, right, false});
  events_.spawn(watch(from, daemon, target, link, 0));
  auto said = co_await receive(link, 0, kRestoreLimit);
  if (daemon->ended) co_return false;
  if (said && said->kind == Kind::kStaged) {
    send(link, 0, Message{Kind::kCommit, {}, false});
    said = co_await receive(link, 0, kCommitLimit);
    if (daemon->ended) co_return false;
  }
  if (said && said->kind == Kind::kRunning) machine->target_says(decision::Word::kCommitted);
  if (said && said->kind == Kind::kFailed && said->renounced) machine->target_says(decision::Word::kRenounced);
  if (machine->state() == decision::Source::State::kWaiting) {
    ++counts_.doubts;
    Decision decision(right);
    AskTarget ask_target = [this, from, target, id] { return ask(from, target, id, true); };
    const Micros began = events_.now();
    (void)co_await decide_at_source(*daemon->owners, std::move(decision), machine, std::move(ask_target),
                                    [](const std::string&) {});
    counts_.doubt_longest = std::max(counts_.doubt_longest, events_.now() - began);
  }
  daemon->waiting.erase(id);
  if (daemon->ended) co_return false;
  if (machine->state() == decision::Source::State::kCommitted) co_return true;
  copy.state = Copy::State::kRunning;
  copy.migration.clear();
  copy.peer.clear();
  set(from, container, copy);
  co_return false;
}

// The target's side, from the offer on.
awaitable<void> World::arrive(std::size_t at, DaemonPtr daemon, std::string container, std::string id,
                              LinkPtr link) {
  using Do = decision::Target::Do;
  Node& here = nodes_[at];
  auto offer = co_await receive(link, 1, 5 * kSecond);
  if (daemon->ended) co_return;
  if (!offer || here.copies.contains(container) || here.degraded) {
    send(link, 1, Message{Kind::kFailed, {}, true});
    close(link, 1);
    co_return;
  }
  co_await events_.sleep(events_.between(5 * kMs, 60 * kMs));
  if (daemon->ended) co_return;
  auto machine = std::make_shared<decision::Target>();
  daemon->deciding[id] = machine;
  here.outcomes[id] = decision::Word::kUndecided;
  send(link, 1, Message{Kind::kAccepted, {}, false});
  const std::string source = nodes_[link->ends[0]].name;
  auto images = co_await receive(link, 1, 120 * kSecond);
  if (daemon->ended) co_return;
  const bool whole = images && images->kind == Kind::kImageEnd;
  // A container can be here again meanwhile, by another way.
  bool fails = !whole || here.copies.contains(container) || machine->state() == decision::Target::State::kAborted;
  Copy copy;
  bool useless = false;
  if (!fails) {
    copy.state = Copy::State::kHeld;
    copy.migration = id;
    copy.peer = source;
    copy.epoch = images->right->ownership.epoch;
    copy.part = images->right->ownership.migration->needs_source;
    set(at, container, copy);
    co_await events_.sleep(events_.between(8 * kMs, 300 * kMs));  // restore
    if (daemon->ended) co_return;
    useless = events_.happens(kFails);  // what cannot be restored is no copy that could run
    fails = useless || machine->state() == decision::Target::State::kAborted;
  }
  if (!fails) {
    copy.restored = true;
    set(at, container, copy);
    machine->staged(images->right->version);
    send(link, 1, Message{Kind::kStaged, {}, false});
    events_.spawn(watch(at, daemon, source, link, 1));
    Decision decision(*images->right);
    bool alone = false;
    while (machine->next() == Do::kListen || machine->next() == Do::kLook ||
           machine->next() == Do::kWriteCommit) {
      if (machine->next() == Do::kListen) {
        auto asked = co_await receive(link, 1, kCommitLimit);
        if (daemon->ended) co_return;
        if (asked && asked->kind == Kind::kCommit) {
          machine->commit_asked();
        } else {
          machine->source_lost();
          alone = true;
        }
        continue;
      }
      co_await step_at_target(*daemon->owners, decision, *machine);
      if (daemon->ended) co_return;
      if (events_.happens(kFails / 20)) {  // its pager dies
        useless = true;
        (void)machine->renounce();
      }
    }
    if (machine->state() == decision::Target::State::kCommitted) {
      if (alone && !nodes_[number_of(source)].power) ++counts_.saved_alone;
      copy.state = Copy::State::kRunning;
      copy.part = false;
      ++copy.epoch;
      set(at, container, copy);
      co_await events_.sleep(events_.between(300, 5 * kMs));  // CRIU lets go of the tasks
      if (daemon->ended) co_return;
      here.outcomes[id] = decision::Word::kCommitted;
      const auto mine = here.copies.find(container);
      if (mine != here.copies.end()) mine->second.migration.clear();
      daemon->deciding.erase(id);
      send(link, 1, Message{Kind::kRunning, {}, false});
      close(link, 1);
      co_return;
    }
  }
  (void)machine->renounce();
  daemon->deciding.erase(id);
  here.outcomes[id] = decision::Word::kRenounced;
  const auto held = here.copies.find(container);
  if (held != here.copies.end() && held->second.migration == id) drop(at, container, useless);
  send(link, 1, Message{Kind::kFailed, {}, true});
  close(link, 1);
}

// After a restart of the daemon, as in migration/decide.cpp.
awaitable<void> World::resolve(std::size_t node, DaemonPtr daemon, std::string container) {
  Copy copy = nodes_[node].copies.at(container);
  auto machine = std::make_shared<decision::Source>(kAbsent);
  daemon->waiting[copy.migration] = machine;
  ++counts_.doubts;
  Decision decision;
  decision.migration = copy.migration;
  decision.container = container;
  decision.epoch = copy.epoch;
  AskTarget ask_target = [this, node, target = copy.peer, id = copy.migration] { return ask(node, target, id, true); };
  const auto state = co_await decide_at_source(*daemon->owners, std::move(decision), machine,
                                               std::move(ask_target), [](const std::string&) {});
  if (daemon->ended) co_return;
  daemon->waiting.erase(copy.migration);
  if (state == decision::Source::State::kCommitted) {
    drop(node, container, false);
    co_return;
  }
  events_.spawn(withdraw_later(daemon, container, copy.migration));
  copy.state = Copy::State::kRunning;
  copy.moving = false;
  set(node, container, copy);
}

awaitable<void> World::resolve_arrival(std::size_t node, DaemonPtr daemon, std::string container) {
  using Do = decision::Target::Do;
  Node& here = nodes_[node];
  Copy copy = here.copies.at(container);
  auto machine = std::make_shared<decision::Target>();
  daemon->deciding[copy.migration] = machine;
  machine->resumed(here.outcomes[copy.migration] == decision::Word::kRenounced);
  Decision decision;
  decision.migration = copy.migration;
  decision.container = container;
  decision.source = copy.peer;
  decision.epoch = copy.epoch;
  while (machine->next() == Do::kLook || machine->next() == Do::kWriteCommit) {
    co_await step_at_target(*daemon->owners, decision, *machine);
    if (daemon->ended) co_return;
  }
  daemon->deciding.erase(copy.migration);
  if (machine->state() != decision::Target::State::kCommitted) {
    here.outcomes[copy.migration] = decision::Word::kRenounced;
    drop(node, container, false);
    co_return;
  }
  here.outcomes[copy.migration] = decision::Word::kCommitted;
  copy.state = Copy::State::kRunning;
  ++copy.epoch;
  copy.moving = false;
  set(node, container, copy);
}

}  // namespace lifeboat::sim
