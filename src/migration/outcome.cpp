#include "migration/outcome.hpp"

#include "base/file.hpp"
#include "base/log.hpp"
#include "criu_glue/repair.hpp"

namespace lifeboat {

using protocol::Kind;

awaitable<Result<json::object>> ask_node(Node& node, std::string name, std::string method,
                                         json::object params) {
  const Config& config = node.config();
  const NodeConfig* peer = config.find_node(name);
  Error last(Errc::kUnavailable, "node " + name + " is not configured");
  const std::map<std::string, std::string> nowhere;
  for (const auto& [fabric, address] : peer != nullptr ? peer->addresses : nowhere) {
    auto link = co_await Link::connect(node.peer_address(name, address), node.link_self(),
                                       config.timeouts.connect);
    if (!link) {
      last = link.error();
      continue;
    }
    json::object request{{"method", method}, {"params", params}};
    auto sent = co_await link->send(Kind::kRequest, std::move(request), config.timeouts.request);
    if (!sent) {
      last = sent.error();
      continue;
    }
    auto answer = co_await link->expect(Kind::kResponse, config.timeouts.request);
    if (answer) co_return answer;
    last = answer.error();
  }
  co_return tl::unexpected<Error>(last);
}

awaitable<decision::Word> ask_target(Node& node, std::string target, std::string migration, bool renounce) {
  json::object params{{"id", migration}, {"renounce", renounce}};
  auto answer = co_await ask_node(node, target, "migration.outcome", std::move(params));
  if (!answer) co_return decision::Word::kSilent;
  const std::string outcome = string_or(*answer, "outcome");
  if (outcome == to_string(Outcome::kCommitted)) co_return decision::Word::kCommitted;
  if (outcome == to_string(Outcome::kAborted)) co_return decision::Word::kRenounced;
  co_return decision::Word::kUndecided;
}

awaitable<void> wait_until_removed(Node& node, std::string target, std::string migration) {
  constexpr int kAttempts = 10;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const decision::Word word = co_await ask_target(node, target, migration, false);
    if (word == decision::Word::kRenounced) co_return;
    co_await sleep_for(Milliseconds(200));
  }
}

namespace {

bool is_frozen(const Cgroup& cgroup) {
  auto events = read_file(cgroup.path() + "/cgroup.events", 4096);
  return events && events->find("frozen 1") != std::string::npos;
}

// Nothing while it can still be committed, or nobody answers.
awaitable<std::optional<Outcome>> ask_for_end(Node& node, const JournalEntry& entry) {
  auto record = co_await node.owners().find(entry.container);
  if (!record) co_return std::nullopt;
  const std::optional<Ownership> owned = *record ? std::optional((*record)->ownership) : std::nullopt;
  if (owned && owned->migration && owned->migration->id == entry.id) {
    if (owned->migration->state == MigrationState::kCommitted) co_return Outcome::kCommitted;
    const bool open = owned->migration->state == MigrationState::kOpen && !owned->ended;
    co_return open ? std::nullopt : std::optional(Outcome::kAborted);
  }
  // The record is of something later, or it never came to an offer.
  const decision::Word word = co_await ask_target(node, entry.target, entry.id, false);
  if (word == decision::Word::kSilent) co_return std::nullopt;
  co_return word == decision::Word::kCommitted ? Outcome::kCommitted : Outcome::kAborted;
}

// A CRIU that outlived its daemon may begin only now: it freezes the cgroup itself, learns at the end
// of its dump that nobody listens, lets go of the tasks and leaves them frozen.
awaitable<void> undo_late_freeze(std::shared_ptr<Container> container) {
  const auto end = SteadyClock::now() + std::chrono::seconds(30);
  while (SteadyClock::now() < end) {
    co_await sleep_for(Milliseconds(100));
    if (container->state() != ContainerState::kRunning || !container->init().running()) co_return;
    if (is_traced(container->init().pid()) || !is_frozen(container->cgroup())) continue;
    (void)end_repair_mode(container->cgroup().pids());
    (void)container->cgroup().thaw();
    log::info("thawed a container again: criu had gone on after its daemon's end",
              {{"container", container->spec().id}});
  }
}

}  // namespace

awaitable<void> find_out_end(Node& node, JournalEntry entry) {
  constexpr Milliseconds kPauseMax{60'000};  // nobody waits for it, and nobody may be there to ask for days
  Milliseconds pause{1000};
  std::optional<Outcome> outcome = co_await ask_for_end(node, entry);
  while (!outcome) {
    co_await sleep_for(pause);
    pause = std::min(2 * pause, kPauseMax);
    outcome = co_await ask_for_end(node, entry);
  }
  entry.reason = "lifeboatd ended in phase " + entry.phase + "; the container is not here any more";
  entry.phase = to_string(*outcome);
  node.journal().end(entry);
  node.metrics().interrupted_ended(*outcome == Outcome::kCommitted);
}

awaitable<void> resume_left_over(std::shared_ptr<Container> container) {
  // CRIU thaws and freezes the cgroup by itself while it works: acting before it is done would be
  // undone.
  while (container->init().running() && is_traced(container->init().pid())) {
    co_await sleep_for(Milliseconds(20));
  }
  (void)end_repair_mode(container->cgroup().pids());
  (void)container->net().settle_mtu();
  (void)container->net().plug();
  (void)container->cgroup().thaw();
  (void)container->net().announce();
  (void)container->set_state(ContainerState::kRunning);
  log::info("container goes on after an interrupted migration",
            {{"container", container->spec().id}});
  auto executor = co_await asio::this_coro::executor;
  run_detached(executor, "undoing a freeze", undo_late_freeze(std::move(container)));
}

}  // namespace lifeboat
