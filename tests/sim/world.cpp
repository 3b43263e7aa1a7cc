// Nodes, their network, and what befalls them.
#include "sim/world.hpp"

#include <algorithm>

namespace lifeboat::sim {

namespace {

constexpr Milliseconds kLeaseTerm{6000};
constexpr Milliseconds kOwnersTimeout{5000};
constexpr double kLost = 0.002;  // requests to the registry

}  // namespace

World::World(const Settings& settings) : settings_(settings), events_(settings.seed), server_(events_) {
  server_.trace = ownership_key(settings.trace);
  nodes_.resize(settings.nodes);
  for (std::size_t n = 0; n < nodes_.size(); ++n) {
    nodes_[n].name = "n" + std::to_string(n);
    numbers_[nodes_[n].name] = n;
    start_daemon(n);
  }
}

World::~World() = default;

std::size_t World::number_of(const std::string& node) const { return numbers_.at(node); }

bool World::connected(std::size_t a, std::size_t b) const {
  return nodes_[a].power && nodes_[b].power && (a == b || nodes_[a].group == nodes_[b].group);
}

bool World::registry_answers(std::size_t node) const {
  if (!registry_up_ || !nodes_[node].power) return false;
  // A cluster of its own is reached by the group that has most of it: group 0.
  if (!settings_.embedded) return nodes_[node].group == 0;
  return nodes_[0].daemon && connected(node, 0);
}

void World::start_daemon(std::size_t n) {
  Node& node = nodes_[n];
  if (!node.power || node.daemon) return;
  auto daemon = std::make_shared<Daemon>();
  std::function<bool()> reachable = [this, n] { return registry_answers(n); };
  daemon->route = std::make_shared<RegistryRoute>(
      RegistryRoute{server_, std::move(reachable), settings_.faults > 0 ? kLost : 0, false});
  daemon->registry = std::make_unique<SimulatedRegistry>(events_, daemon->route);
  daemon->owners = std::make_unique<Owners>(*daemon->registry, kOwnersTimeout);
  node.daemon = daemon;
  daemons_.push_back(daemon);
  if (settings_.embedded && n == 0) server_.restarted();
  events_.spawn(keep_lease(n, daemon));
  events_.spawn(keep_to_registry(n, daemon));
  std::vector<std::string> half;
  for (auto& [container, copy] : node.copies) {
    copy.moving = false;
    if (copy.state == Copy::State::kFrozen) {
      copy.state = Copy::State::kRunning;
    } else if (copy.state == Copy::State::kInDoubt) {
      copy.moving = true;
      events_.spawn(resolve(n, daemon, container));
    } else if (copy.state == Copy::State::kHeld && copy.restored) {
      events_.spawn(resolve_arrival(n, daemon, container));
    } else if (copy.state == Copy::State::kHeld) {
      half.push_back(container);
    } else if (!copy.migration.empty()) {  // it runs here since a commit that was not written down
      node.outcomes[copy.migration] = decision::Word::kCommitted;
      copy.migration.clear();
    }
  }
  for (auto& [id, word] : node.outcomes) {  // as Node::settle_outcomes()
    const bool held = std::any_of(node.copies.begin(), node.copies.end(),
                                  [&](const auto& item) { return item.second.migration == id; });
    if (word == decision::Word::kUndecided && !held) word = decision::Word::kRenounced;
  }
  for (const std::string& container : half) {
    node.outcomes[node.copies[container].migration] = decision::Word::kRenounced;
    drop(n, container, true);
  }
}

void World::end_daemon(std::size_t n) {
  Node& node = nodes_[n];
  if (!node.daemon) return;
  const DaemonPtr daemon = std::exchange(node.daemon, nullptr);
  daemon->ended = true;
  daemon->route->ended = true;
  // Coroutines of it that wait for a decision are not to wait for ever.
  for (const auto& [id, machine] : daemon->waiting) machine->operator_says(true);
  for (const auto& [id, machine] : daemon->deciding) machine->operator_says(false);
  for (const auto& [number, link] : std::map(daemon->links)) close(link, link->ends[0] == n ? 0 : 1);
  daemon->links.clear();
}

// By SIGTERM, as main() does it.
awaitable<void> World::stop_daemon(std::size_t n, DaemonPtr daemon) {
  const auto undecided = [](const auto& item) { return item.second->undecided(); };
  const Micros limit = events_.now() + 5 * kSecond;
  while (std::any_of(daemon->deciding.begin(), daemon->deciding.end(), undecided)) {
    if (events_.now() >= limit) break;
    co_await events_.sleep(10 * kMs);
    if (daemon->ended) co_return;
  }
  Node& node = nodes_[n];
  if (events_.now() < limit) {  // what is not held goes with it: Arrival
    for (const auto& [id, machine] : daemon->deciding) {
      if (machine->state() == decision::Target::State::kCommitted) continue;
      node.outcomes[id] = decision::Word::kRenounced;
      const auto at = std::find_if(node.copies.begin(), node.copies.end(),
                                   [&id](const auto& item) { return item.second.migration == id; });
      if (at == node.copies.end()) continue;
      const std::string container = at->first;
      const bool only = where_.at(container).size() == 1;
      if (only && machine->state() == decision::Target::State::kHolding) {
        wrong_ = node.name + " was told to end, and has removed the last copy of " + container;
      }
      drop(n, container, !at->second.restored);
    }
  }
  end_daemon(n);
  events_.after(events_.between(50 * kMs, 10 * kSecond), [this, n] { start_daemon(n); });
}

void World::cut_power(std::size_t n) {
  Node& node = nodes_[n];
  if (!node.power) return;
  ++counts_.power_cuts;
  node.power = false;
  end_daemon(n);
  std::erase_if(node.outcomes, [](const auto& item) { return item.second != decision::Word::kCommitted; });
  for (const auto& [container, copy] : std::map<std::string, Copy>(node.copies)) drop(n, container, true);
}

void World::boot(std::size_t n) {
  nodes_[n].power = true;
  nodes_[n].degraded = false;
  start_daemon(n);
}

World::LinkPtr World::open_link(std::size_t from, std::size_t to) {
  if (!connected(from, to) || !nodes_[from].daemon || !nodes_[to].daemon) return nullptr;
  auto link = std::make_shared<Link>();
  link->number = ++last_link_;
  link->ends[0] = from;
  link->ends[1] = to;
  nodes_[from].daemon->links[link->number] = link;
  nodes_[to].daemon->links[link->number] = link;
  return link;
}

void World::send(const LinkPtr& link, int from, Message message, int attempt) {
  const int to = 1 - from;
  if (!link->open[from]) return;
  Micros when = events_.now() + (events_.happens(0.01) ? events_.between(kMs, 800 * kMs) : events_.between(40, 900));
  when = std::max(when, link->last[from] + 1);
  link->last[from] = when;
  events_.at(when, [this, link, from, to, message = std::move(message), attempt]() mutable {
    if (!link->open[to]) return;
    if (connected(link->ends[0], link->ends[1])) {
      link->arrived[to].push_back(std::move(message));
      Events::signal(*link->waiting[to]);
      return;
    }
    // TCP tries again; at some time one side has enough, and later the other.
    constexpr int kAttempts = 6;
    if (attempt < kAttempts && link->open[from]) {
      events_.after(events_.between(200 * kMs, 2 * kSecond), [this, link, from, message, attempt] {
        send(link, from, message, attempt + 1);
      });
      return;
    }
    close(link, from);
  });
}

void World::close(const LinkPtr& link, int end) {
  if (!link->open[end]) return;
  link->open[end] = false;
  Events::signal(*link->waiting[end]);
  if (nodes_[link->ends[end]].daemon) nodes_[link->ends[end]].daemon->links.erase(link->number);
  // The other side learns of it after what was sent before, or by its keepalive.
  const int other = 1 - end;
  const bool told = connected(link->ends[0], link->ends[1]);
  const Micros when = told ? std::max(events_.now() + events_.between(40, 900), link->last[end] + 1)
                           : events_.now() + events_.between(kSecond, 25 * kSecond);
  events_.at(when, [this, link, other] { close(link, other); });
}

awaitable<std::optional<Message>> World::receive(LinkPtr link, int end, Micros limit) {
  const Micros until = events_.now() + limit;
  for (;;) {
    if (!link->arrived[end].empty()) {
      Message message = std::move(link->arrived[end].front());
      link->arrived[end].pop_front();
      co_return message;
    }
    if (!link->open[end] || events_.now() >= until) co_return std::nullopt;
    co_await events_.wait(link->waiting[end], until - events_.now());
  }
}

// What `migration.outcome` with `renounce` answers: Node::outcome_of().
awaitable<decision::Word> World::ask(std::size_t from, std::string to, std::string migration, bool renounce) {
  const std::size_t n = number_of(to);
  co_await events_.sleep(events_.between(100, 2 * kMs));
  Node& node = nodes_[n];
  if (!connected(from, n) || !node.daemon) {
    co_await events_.sleep(events_.between(kMs, kSecond));
    co_return decision::Word::kSilent;
  }
  decision::Word word = decision::Word::kUndecided;
  const auto at = node.daemon->deciding.find(migration);
  const auto known = node.outcomes.find(migration);
  const bool held = std::any_of(node.copies.begin(), node.copies.end(), [&](const auto& item) {
    return item.second.migration == migration;
  });
  if (at != node.daemon->deciding.end()) {
    if (renounce) (void)at->second->renounce();
    const auto state = at->second->state();
    word = state == decision::Target::State::kCommitted ? decision::Word::kCommitted
           : state == decision::Target::State::kAborted ? decision::Word::kRenounced
                                                        : decision::Word::kUndecided;
    if (word == decision::Word::kRenounced) node.outcomes[migration] = word;
  } else if (!held && known != node.outcomes.end()) {
    word = known->second;
  }
  co_await events_.sleep(events_.between(100, 2 * kMs));
  co_return connected(from, n) ? word : decision::Word::kSilent;
}

// As Presence.
awaitable<void> World::keep_lease(std::size_t n, DaemonPtr daemon) {
  const std::string key = presence_key(nodes_[n].name);
  LeaseId lease = kNoLease;
  bool told = true;  // the first answer is news
  while (!daemon->ended) {
    Status kept;
    if (lease != kNoLease) kept = co_await daemon->registry->keep_alive(lease);
    if (lease == kNoLease || (!kept && kept.error().code == Errc::kNotFound)) {
      lease = kNoLease;
      auto granted = co_await daemon->registry->grant(kLeaseTerm);
      if (granted) {
        auto now = co_await daemon->registry->get(key);
        if (now) {
          SwapRequest request;
          request.key = key;
          request.version = *now ? (*now)->version : kAbsent;
          request.value = "since " + std::to_string(events_.now());
          request.lease = *granted;
          auto swapped = co_await daemon->registry->swap(std::move(request), kLeaseTerm);
          if (swapped && swapped->written) lease = *granted;
        }
      }
      kept = lease == kNoLease ? Status(fail(Errc::kUnavailable, "")) : Status();
      told = true;
    }
    if (daemon->ended) co_return;
    told = !kept || (told && !co_await reconcile(n, daemon));
    if (daemon->ended) co_return;
    co_await events_.sleep(kLeaseTerm.count() * kMs / 4);
  }
}

// As PresenceWatch.
awaitable<void> World::watch(std::size_t, DaemonPtr daemon, std::string peer, LinkPtr link, int end) {
  while (link->open[end] && !daemon->ended) {
    co_await events_.sleep(kSecond);
    if (!link->open[end] || daemon->ended) co_return;
    auto alive = co_await daemon->owners->node_alive(peer);
    if (daemon->ended || !alive || *alive) continue;
    close(link, end);
  }
}

bool World::runs(std::size_t n, const std::string& container) const {
  const auto copy = nodes_[n].copies.find(container);
  return copy != nodes_[n].copies.end() && copy->second.state == Copy::State::kRunning && !copy->second.moving;
}

std::vector<std::string> World::running(std::size_t n) const {
  std::vector<std::string> names;
  for (const auto& [container, copy] : nodes_[n].copies) {
    if (runs(n, container)) names.push_back(container);
  }
  return names;
}

// As Node::reconcile_here().
awaitable<void> World::reconcile_here(std::size_t n, DaemonPtr daemon, std::string container,
                                      std::optional<OwnerRecord> record) {
  if (!runs(n, container)) co_return;
  const std::string& name = nodes_[n].name;
  if (!record) {
    (void)co_await daemon->owners->claim(container, "job", name);
    co_return;
  }
  const Ownership owned = record->ownership;
  if (owned.ended || owned.owner != name) {
    ++counts_.fenced;
    drop(n, container, false);
  } else if (owned.migration && owned.migration->state == MigrationState::kOpen) {
    (void)co_await daemon->owners->abort(std::move(*record), owned.migration->id);
  }
}

// As Node::look_after_containers().
awaitable<void> World::keep_to_registry(std::size_t n, DaemonPtr daemon) {
  for (;;) {
    co_await events_.sleep(30 * kSecond);
    if (daemon->ended) co_return;
    for (const std::string& container : running(n)) {
      auto record = co_await daemon->owners->find(container);
      if (daemon->ended) co_return;
      if (!record) break;
      co_await reconcile_here(n, daemon, container, std::move(*record));
      if (daemon->ended) co_return;
    }
  }
}

// As Node::compare_with_registry().
awaitable<bool> World::reconcile(std::size_t n, DaemonPtr daemon) {
  Node& node = nodes_[n];
  const std::vector<std::string> here = running(n);
  auto records = co_await daemon->owners->of_node(node.name);
  if (!records || daemon->ended) co_return false;
  std::map<std::string, const OwnerRecord*> by_id;
  for (const OwnerRecord& record : *records) by_id[record.ownership.container] = &record;
  for (const std::string& container : here) {
    const auto at = by_id.find(container);
    std::optional<OwnerRecord> record;
    if (at != by_id.end()) {
      record = *at->second;
    } else {
      auto other = co_await daemon->owners->find(container);
      if (!other || daemon->ended) co_return false;
      record = std::move(*other);
    }
    co_await reconcile_here(n, daemon, container, std::move(record));
    if (daemon->ended) co_return false;
  }
  for (const OwnerRecord& record : *records) {
    if (record.ownership.owner != node.name || record.ownership.ended) continue;
    const std::string& container = record.ownership.container;
    if (node.copies.contains(container) || daemon->starting.contains(container)) continue;
    auto again = co_await daemon->owners->find(container);
    if (!again || daemon->ended) co_return false;
    if (!*again || (*again)->version != record.version || node.copies.contains(container)) continue;
    if (record.ownership.migration && record.ownership.migration->state == MigrationState::kOpen) {
      events_.spawn(leave_to_target(n, daemon, record.ownership));
      continue;
    }
    const Status ended = co_await daemon->owners->end(container, node.name);
    if (!ended || daemon->ended) co_return false;
  }
  co_return true;
}

// As Node::leave_to_target().
awaitable<void> World::leave_to_target(std::size_t n, DaemonPtr daemon, Ownership owned) {
  if (!daemon->left_to_target.insert(owned.container).second) co_return;
  AskTarget ask_target = [this, n, target = owned.migration->target, id = owned.migration->id] {
    return ask(n, target, id, false);
  };
  (void)co_await give_up(*daemon->owners, nodes_[n].name, owned.container, owned.migration->id,
                         std::move(ask_target));
  daemon->left_to_target.erase(owned.container);
}

// A job's head ends what is on a node that it does not hear of.
awaitable<void> World::give_up_silent(std::size_t n) {
  const DaemonPtr head = nodes_[0].daemon;
  const auto copies = nodes_[n].copies;
  for (const auto& [container, copy] : copies) {
    given_up_.insert(container);
    ++counts_.given_up;
    for (;;) {
      const Status ended = co_await head->owners->end_anywhere(container);
      if (head->ended || ended || ended.error().code == Errc::kNotFound) break;
      co_await events_.sleep(kSecond);
    }
    if (head->ended) co_return;
  }
}

// A node is going bad: the plan, and its steps in order.
void World::evacuate(std::size_t n) {
  nodes_[n].degraded = true;
  evacuation::Request request;
  request.fabrics.push_back({"10g", 0, 0, 0});
  for (const Node& node : nodes_) {
    evacuation::Node view;
    view.name = node.name;
    view.health = !node.power ? evacuation::Health::kDown
                  : node.degraded ? evacuation::Health::kDegraded
                                  : evacuation::Health::kUp;
    view.memory_free_bytes = 64ULL << 30;
    view.slots_free = 64;
    view.fabrics["10g"] = 1.25e9;
    request.nodes.push_back(std::move(view));
    for (const auto& [container, copy] : node.copies) {
      if (copy.state != Copy::State::kRunning) continue;
      evacuation::Container one;
      one.id = container;
      one.node = node.name;
      one.memory_bytes = one.resident_bytes = 1 << 30;
      one.fabrics = {"10g"};
      request.containers.push_back(std::move(one));
    }
  }
  request.evacuations.push_back({nodes_[n].name, evacuation::Reason::kFailing, 600.0});
  const auto began = std::chrono::steady_clock::now();
  auto plan = evacuation::plan_evacuation(request);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
  counts_.plan_ms_longest = std::max(counts_.plan_ms_longest, took.count());
  ++counts_.plans;
  if (!plan) {
    wrong_ = "no plan: " + plan.error().message;
    return;
  }
  for (const evacuation::Step& step : plan->steps) {
    ++counts_.steps;
    const std::size_t to = number_of(step.to);
    events_.after(static_cast<Micros>(step.start_s * static_cast<double>(kSecond)),
                  [this, container = step.container, to] { begin_migration(container, to); });
  }
}

awaitable<void> World::load() {
  for (std::size_t c = 0; c < settings_.containers; ++c) {
    const std::size_t node = events_.below(nodes_.size());
    if (nodes_[node].daemon) events_.spawn(start_container(node, nodes_[node].daemon, "c" + std::to_string(c)));
  }
  std::size_t next = settings_.containers;
  while (counts_.begun < settings_.migrations) {
    co_await events_.sleep(events_.between(0, 4 * kSecond / static_cast<Micros>(settings_.nodes)));
    const auto some = where_.lower_bound("c" + std::to_string(events_.below(next)));
    const std::size_t to = events_.below(nodes_.size());
    if (some != where_.end() && nodes_[to].power && !nodes_[to].degraded) begin_migration(some->first, to);
    const std::size_t node = events_.below(nodes_.size());
    if (where_.size() < settings_.containers && nodes_[node].daemon) {
      events_.spawn(start_container(node, nodes_[node].daemon, "c" + std::to_string(next++)));
    }
  }
  calm_ = true;
}

// Each fault is mended by itself after a while.
awaitable<void> World::faults() {
  if (settings_.faults <= 0) co_return;
  const auto pause = static_cast<Micros>(static_cast<double>(8 * kSecond) / settings_.faults *
                                         (50.0 / static_cast<double>(settings_.nodes)));
  while (!calm_) {
    co_await events_.sleep(events_.between(0, 2 * pause));
    if (calm_) break;
    const std::size_t node = events_.below(nodes_.size());
    switch (events_.below(7)) {
      case 0:
        if (!nodes_[node].daemon) break;
        ++counts_.stops;
        events_.spawn(stop_daemon(node, nodes_[node].daemon));
        break;
      case 1:
        if (!nodes_[node].daemon) break;
        ++counts_.crashes;
        end_daemon(node);
        events_.after(events_.between(50 * kMs, 10 * kSecond), [this, node] { start_daemon(node); });
        break;
      case 2:
        cut_power(node);
        events_.after(events_.between(5 * kSecond, 60 * kSecond), [this, node] { boot(node); });
        break;
      case 3:
        if (!nodes_[node].power) break;
        evacuate(node);
        events_.after(events_.between(kSecond, 20 * kSecond), [this, node] {
          if (!calm_) cut_power(node);
        });
        events_.after(events_.between(30 * kSecond, 90 * kSecond), [this, node] { boot(node); });
        break;
      case 4: {
        ++counts_.partitions;
        const std::size_t parts = 2 + events_.below(2);
        for (Node& one : nodes_) one.group = events_.happens(0.8) ? 0 : events_.below(parts);
        events_.after(events_.between(100 * kMs, 30 * kSecond), [this] { heal(); });
        break;
      }
      case 5:
        if (nodes_[0].daemon && !connected(0, node)) events_.spawn(give_up_silent(node));
        break;
      default:
        if (!registry_up_) break;
        ++counts_.registry_outages;
        registry_up_ = false;
        events_.after(events_.between(20 * kMs, 20 * kSecond), [this] { registry_up_ = true; });
        break;
    }
  }
}

void World::heal() {
  for (Node& node : nodes_) node.group = 0;
}

std::string World::run() {
  events_.spawn(load());
  events_.spawn(faults());
  while (!calm_ && wrong_.empty() && events_.step()) {
  }
  // All faults are over; what they left behind has so long to be cleared up.
  constexpr Micros kQuiet = 300 * kSecond;
  events_.after(0, [this] {
    heal();
    registry_up_ = true;
    for (std::size_t n = 0; n < nodes_.size(); ++n) boot(n);
  });
  const Micros end = events_.now() + kQuiet;
  while (events_.now() < end && wrong_.empty() && events_.step()) {
  }
  counts_.events = events_.count;
  counts_.registry_requests = server_.requests;
  counts_.registry_swaps = server_.swaps;
  return wrong_.empty() ? check_quiet() : wrong_;
}

}  // namespace lifeboat::sim
