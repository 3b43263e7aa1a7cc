#include "migration/source.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.hpp"
#include "events.hpp"
#include "criu_glue/dirty_tracker.hpp"
#include "criu_glue/pagemap_image.hpp"
#include "criu_glue/repair.hpp"
#include "migration/decide.hpp"
#include "migration/drain.hpp"
#include "migration/hold_link.hpp"
#include "migration/outcome.hpp"
#include "migration/turn.hpp"
#include "registry/presence.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

awaitable<Result<HeldDump>> dump_then(PreparedDump dump, const Cgroup& cgroup, bool& ended,
                                      SteadyClock::time_point& ended_at) {
  auto held = co_await errors_of(std::move(dump).start(cgroup), "dump");  // `ended` must be set in any case
  // CRIU thaws the cgroup for its work. Killed in the middle of that it leaves tasks that run with
  // connections in repair mode, where their calls fail: not a moment longer than need be.
  if (!held) {
    (void)cgroup.freeze_now(Milliseconds(100));
    (void)end_repair_mode(cgroup.pids());
  }
  ended_at = SteadyClock::now();
  ended = true;
  co_return held;
}

// The list of all pages, for the pager to check that it has them.
awaitable<Status> send_final_list(Link& link, const std::vector<FinalPage>& pages,
                                  Milliseconds idle) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(pages.data());
  const std::size_t size = pages.size() * sizeof(FinalPage);
  for (std::size_t at = 0; at < size; at += protocol::kDataBytesMax) {
    const std::size_t part = std::min(size - at, protocol::kDataBytesMax);
    CO_CHECK_OK(co_await link.send_bytes(Kind::kFinalPages, bytes + at, part, idle));
  }
  json::object end{{"pages", pages.size()}, {"hash", XXH3_64bits(bytes, size)}};
  co_return co_await link.send(Kind::kMemoryEnd, std::move(end), idle);
}

// What the target lacks, while CRIU dumps the rest.
awaitable<Status> send_memory(Connected& peer, Milliseconds idle) {
  if (!peer.memory) co_return Status{};
  MemoryReport& memory = peer.move.report->memory;
  FinalMemory rest;
  if (peer.urgent) {
    CO_TRY(rest, co_await peer.memory->list_rest());
    memory.pages_later = std::exchange(rest.sent_pages, 0);
  } else {
    CO_TRY(rest, co_await peer.memory->send_rest());
  }
  CO_CHECK_OK(co_await send_final_list(peer.link, rest.pages, idle));
  // The restore itself already touches pages.
  if (peer.urgent) {
    // What is left is no part of the node's shares: only the operator's own limit counts.
    peer.memory->limit(peer.move.bytes_per_s);
    CO_TRY(peer.server, peer.memory->serve_rest(std::move(peer.urgent)));
  }
  memory.pages = rest.present_pages;
  memory.pages_frozen = rest.sent_pages;
  memory.pages_untracked = rest.untracked_pages;
  const SendCounts& counts = peer.memory->counts();
  memory.pages_zero = counts.zero_pages;
  memory.pages_duplicate = counts.duplicate_pages;
  memory.pages_compressed = counts.compressed_pages;
  memory.bytes_raw = counts.raw_bytes;
  memory.bytes_on_wire = counts.payload_bytes;
  memory.bytes_frozen = rest.bytes_on_wire;
  memory.survey_ms = rest.survey_ms;
  memory.send_ms = rest.send_ms;
  co_return Status{};
}

// CRIU must have left alone all that it would not restore itself; else memory would be lost.
Status check_dump(const Connected& peer, const ImageDirectory& images) {
  if (!peer.memory) return {};
  TRY(const std::vector<LazyRange> lazy, lazy_pages_in_images(images.path()));
  if (lazy.empty()) return {};
  std::uint64_t pages = 0;
  for (const LazyRange& range : lazy) pages += range.pages;
  return fail(Errc::kUnavailable, "criu dumped " + std::to_string(pages) +
                                      " pages that Lifeboat carries itself (pid " +
                                      std::to_string(lazy.front().pid) + " in the container)");
}

// What a frozen container is in the middle of that cannot be dumped; empty: nothing. A connection that is
// half-way made, or made and not yet accepted; a process in vfork(), for which CRIU would wait in vain.
std::string half_done(const Container& container, const std::vector<TcpSocket>& sockets) {
  const auto socket = std::find_if(sockets.begin(), sockets.end(), is_in_flight);
  if (socket != sockets.end()) return "connection " + to_string(*socket) + " is never accepted or made";
  const std::vector<pid_t> pids = container.cgroup().pids();
  const auto child = std::find_if(pids.begin(), pids.end(), shares_its_parents_memory);
  if (child != pids.end()) return "process " + std::to_string(*child) + " stays in vfork() and runs no program";
  return "";
}

// Such things last for a moment: if the freeze hits one, the container goes on for that moment and is
// frozen again.
awaitable<Result<FrozenContainer>> freeze_between_steps(std::shared_ptr<Container> container, Milliseconds limit,
                                                        SteadyClock::time_point& frozen_at, NetworkState& network) {
  const auto deadline = SteadyClock::now() + limit;
  for (;;) {
    frozen_at = SteadyClock::now();
    CO_TRY(FrozenContainer frozen, co_await FrozenContainer::freeze(container, limit));
    CO_TRY(const std::vector<TcpSocket> sockets, container->net().tcp_sockets());
    const std::string unfinished = half_done(*container, sockets);
    if (unfinished.empty()) {
      network.established = established_pairs(sockets);
      CO_TRY(network.neighbours, container->net().neighbours());
      co_return frozen;
    }
    if (SteadyClock::now() > deadline) {
      co_return fail(Errc::kTimeout, unfinished + "; it cannot be moved like that");
    }
    {
      const FrozenContainer let_go = std::move(frozen);
    }
    co_await sleep_for(Milliseconds(10));
  }
}

// Tells CRIU's helper library which mappings and files are ours.
Status hide_owned(Connected& peer, PreparedDump& dump) {
  if (!peer.memory) return {};
  TRY(const std::vector<OwnedMappings> owned, peer.memory->note_owned());
  std::vector<HiddenRange> hidden;
  for (const OwnedMappings& process : owned) {
    for (const AddressRange& range : process.mappings) {
      hidden.push_back({static_cast<std::uint32_t>(process.pid), range.start, range.end});
    }
  }
  dump.leave_out(peer.layers->shared_memory());
  peer.layers->check_shared_memory();
  return dump.hidden()->set(std::move(hidden));
}

// The record says from here on that the target may have it; the target cannot use that before it is told
// the version.
awaitable<Result<OwnerRecord>> offer_right(Node& node, const Move& move) {
  const std::string id = move.container->spec().id;
  CO_TRY(const std::optional<OwnerRecord> now, co_await node.owners().find(id));
  if (!now) co_return fail(Errc::kConflict, "the registry has no record of container " + id + " any more");
  OwnerRecord record = *now;
  OwnedMigration migration;
  migration.id = move.report->id;
  migration.source = node.name();
  migration.target = move.target;
  migration.needs_source = is_post_copy(move.report->mode);
  move.report->offered = true;
  co_return co_await node.owners().offer(std::move(record), std::move(migration));
}

// Whether the registry answers and says that the container is ours: without it nothing is begun.
awaitable<Status> check_ownership(Node& node, const Move& move) {
  const std::string id = move.container->spec().id;
  auto now = co_await node.owners().find(id);
  if (!now) {
    co_return tl::unexpected<Error>(now.error().context("no migration can begin without the registry"));
  }
  const bool mine = *now && !(*now)->ownership.ended && (*now)->ownership.owner == node.name();
  if (mine) {
    move.container->set_epoch((*now)->ownership.epoch);
    co_return Status{};
  }
  if (*now && !(*now)->ownership.ended) {
    co_return fail(Errc::kConflict, "container " + id + " belongs to node " + (*now)->ownership.owner +
                                        " by the registry");
  }
  CO_TRY(const OwnerRecord claimed,
         co_await node.owners().claim(id, move.container->spec().job, node.name()));
  move.container->set_epoch(claimed.ownership.epoch);
  co_return Status{};
}

// The target may have committed, or may yet. Whether it has; if not, dropping `source` lets the container
// go on here.
awaitable<bool> committed_after_all(Node& node, Frozen& source, std::shared_ptr<decision::Source> machine,
                                    std::string why) {
  MigrationReport& report = *source.peer.move.report;
  source.peer.stream.set_thawed();  // others need not wait for this
  if (machine->state() == decision::Source::State::kWaiting) {
    report.outcome = Outcome::kInDoubt;
    JournalEntry entry = journal_entry(report);
    entry.phase = to_string(Outcome::kInDoubt);
    entry.reason = why;
    node.journal().note(entry);
  }
  Decision decision(source.right);
  const auto state = co_await decide_at_source(node, std::move(decision), std::move(machine));
  const bool committed = state == decision::Source::State::kCommitted;
  if (!committed) {
    (void)source.peer.move.container->set_state(ContainerState::kLeaving, report.id, source.peer.move.target);
    source.container.keep_frozen(false);
  }
  co_return committed;
}

// A message of this kind. What a target says that failed before it tried to commit decides.
awaitable<Result<json::object>> expect_word(Link& link, Kind kind, Milliseconds limit, decision::Source& machine) {
  CO_TRY(const Frame frame, co_await link.receive(limit));
  if (frame.kind == Kind::kFailed) {
    auto body = parse_object(frame.text());
    if (body && flag(*body, "renounced")) machine.target_says(decision::Word::kRenounced);
  }
  co_return link.read(frame, kind);
}

awaitable<Result<Frozen>> freeze(Node& node, PreCopied source) {
  using namespace asio::experimental::awaitable_operators;
  const Config& config = node.config();
  Connected& peer = source.peer;
  MigrationReport& report = *peer.move.report;
  std::shared_ptr<Container> container = peer.move.container;

  CO_CHECK_OK(co_await peer.stream.wait_for_turn(report.cancellation, config.timeouts.queue));
  CO_CHECK_OK(report.cancellation.check());
  CO_TRY(OwnerRecord right, co_await offer_right(node, peer.move));
  report.enter("freeze");
  peer.stream.set_frozen();
  SteadyClock::time_point frozen_at;
  NetworkState network;
  prepare_hold(config.network.hold, *container, report);
  CO_CHECK_OK(co_await source.dump.arm(container->cgroup(), peer.layers->shared_memory()));
  CO_TRY(FrozenContainer frozen,
         co_await freeze_between_steps(container, config.timeouts.freeze, frozen_at, network));
  if (peer.memory) source.dump.read_ahead(container->cgroup().pids(), peer.memory->smaps());
  frozen.count_held_in(peer.move.report);
  CO_CHECK_OK(hide_owned(peer, source.dump));
  report.times.freeze = elapsed_ms(frozen_at);
  report.resident_bytes = container->resident_bytes();

  report.enter("dump");
  const auto stopped_at = SteadyClock::now();
  SteadyClock::time_point dumped_at;
  bool dump_ended = false;
  auto reader = std::make_unique<ImageReader>(source.images->path());
  const std::uint64_t link_bytes = peer.link.bytes_sent();
  // Nothing is awaited any more once `peer` has been moved on.
  const auto hook = report.cancellation.on_request([&peer] {
    peer.link.close();
    if (peer.memory) peer.memory->cancel();
  });
  auto [held, memory_sent, images_sent, layers_sent] =
      co_await (dump_then(std::move(source.dump), container->cgroup(), dump_ended, dumped_at) &&
                errors_of(send_memory(peer, config.timeouts.idle), "send memory") &&
                errors_of(peer.images->send_images(peer.link, *reader, dump_ended, report, config.timeouts.idle),
                          "send images") &&
                errors_of(peer.layers->send_frozen(peer.link, report.layer, config.timeouts.idle), "send files"));
  if (!held) co_return tl::unexpected<Error>(held.error());
  report.memory.criu_dump_ms = elapsed_ms(stopped_at, dumped_at);
  auto checked = check_dump(peer, *source.images);
  if (!checked) {
    report.retry_without_pages = true;
    co_return tl::unexpected<Error>(checked.error());
  }
  for (const Status& sent : {memory_sent, images_sent, layers_sent}) {
    if (sent) continue;
    report.enter("transfer");
    co_return tl::unexpected<Error>(sent.error());
  }
  CO_CHECK_OK(co_await peer.layers->send_rest(peer.link, report.layer, config.timeouts.idle));
  report.memory.bytes_frozen += peer.link.bytes_sent() - link_bytes;
  dumped_at = SteadyClock::now();
  report.times.dump = elapsed_ms(stopped_at, dumped_at);
  Frozen result{std::move(peer),
                std::move(network),
                std::move(source.images),
                std::move(reader),
                std::move(frozen),
                std::move(*held),
                std::move(right),
                frozen_at,
                dumped_at};
  co_return result;
}

// Closes the connection once the target no longer keeps its lease, and says so.
class TargetWatch {
 public:
  TargetWatch(Node& node, Frozen& source)
      : target_(source.peer.move.target), watch_(node.executor(), node.owners(), target_, [this, &source] {
          gone_ = true;
          source.peer.link.close();
        }) {}
  // Why the connection was lost.
  [[nodiscard]] tl::unexpected<Error> explain(const Error& error) const {
    if (!gone_) return tl::unexpected<Error>(error.context("node " + target_));
    return fail(Errc::kUnavailable,
                "node " + target_ + " is silent: it no longer keeps its lease in the registry");
  }

 private:
  std::string target_;
  bool gone_ = false;
  PresenceWatch watch_;
};

// In post-copy: closes the connection once no pages can be served any more, for which what is being restored at
// the target would wait.
class ServerWatch {
 public:
  ServerWatch(Node& node, Frozen& source) : source_(std::make_shared<Frozen*>(&source)) {
    if (source.peer.server) run_detached(node.executor(), "watching the target's server", watch(source_));
  }
  ServerWatch(const ServerWatch&) = delete;
  ServerWatch& operator=(const ServerWatch&) = delete;
  ~ServerWatch() { *source_ = nullptr; }
  // Why the connection was lost, if it was for that.
  [[nodiscard]] std::optional<Error> reason() const {
    const std::unique_ptr<PageServer>& server = (*source_)->peer.server;
    if (!server || !server->finished() || server->result()) return std::nullopt;
    return server->result().error().context("pages");
  }

 private:
  static awaitable<void> watch(std::shared_ptr<Frozen*> source) {
    constexpr Milliseconds kLook{5};
    while (*source != nullptr && !(*source)->peer.server->finished()) co_await sleep_for(kLook);
    if (*source != nullptr) (*source)->peer.link.close();
  }

  std::shared_ptr<Frozen*> source_;  // nullptr: not wanted any more
};

// The end of the images, and with it the right to commit; then until the target holds everything.
awaitable<Result<json::object>> give_right(Node& node, Frozen& source, decision::Source& machine) {
  const Config& config = node.config();
  MigrationReport& report = *source.peer.move.report;
  json::object sizes;
  for (const ImageReader::File& file : source.reader->files()) sizes[file.name] = file.sent;
  json::object end{{"files", std::move(sizes)}, {"right", to_json(source.right)}};
  add_to(end, source.network);
  const TargetWatch watch(node, source);
  CO_CHECK_OK(co_await source.peer.link.send(Kind::kImageEnd, std::move(end), config.timeouts.idle));
  const auto hook =
      report.cancellation.on_request([link = &source.peer.link] { link->close(); });
  const ServerWatch server(node, source);
  auto staged = co_await expect_word(source.peer.link, Kind::kStaged, config.timeouts.restore, machine);
  if (!staged) co_return watch.explain(server.reason().value_or(staged.error()));
  co_return staged;
}

awaitable<Result<Staged>> stage(Node& node, Frozen source) {
  const Config& config = node.config();
  Move move = source.peer.move;
  MigrationReport& report = *move.report;
  report.enter("restore");
  CO_CHECK_OK(co_await source.container.send_held(source.peer.link, config.timeouts.idle));
  // Once this record is written, only knowledge of the outcome thaws the container.
  CO_CHECK_OK(move.container->set_state(ContainerState::kInDoubt, report.id, move.target));
  source.container.keep_frozen(true);
  auto machine = std::make_shared<decision::Source>(source.right.version);
  auto staged = co_await give_right(node, source, *machine);
  const auto now = SteadyClock::now();
  if (staged) {
    report.times.restore = number_or(*staged, "restore_ms");
    report.times.transfer = elapsed_ms(source.dumped_at, now) - report.times.restore;
  } else {
    const bool committed = co_await committed_after_all(node, source, machine, staged.error().message);
    report.times.downtime = elapsed_ms(source.frozen_at);
    if (!committed) co_return tl::unexpected<Error>(staged.error());
  }
  report.bytes_sent = source.peer.link.bytes_sent();
  if (source.peer.memory) report.bytes_sent += source.peer.memory->bytes_on_wire();
  Staged result{std::move(source), now, std::move(machine)};
  co_return result;
}

awaitable<Result<json::object>> send_commit(Node& node, Frozen& source, decision::Source& machine) {
  const Timeouts& timeouts = node.config().timeouts;
  Link& link = source.peer.link;
  CO_CHECK_OK(co_await source.container.send_held(link, timeouts.idle));
  CO_CHECK_OK(source.peer.move.report->cancellation.pass_point_of_no_return());
  json::object nothing;
  CO_CHECK_OK(co_await link.send(Kind::kCommit, std::move(nothing), timeouts.request));
  const TargetWatch watch(node, source);
  auto running = co_await expect_word(link, Kind::kRunning, timeouts.commit, machine);
  if (!running) co_return watch.explain(running.error());
  machine.target_says(decision::Word::kCommitted);
  co_return running;
}

// CRIU ends the tasks, which takes as long as freeing their memory; the network goes meanwhile.
awaitable<Status> end_here(HeldDump dump, Container& container) {
  using namespace asio::experimental::awaitable_operators;
  asio::thread_pool thread(1);
  std::function<bool()> remove_network = [&container] {
    container.net().remove();
    return true;
  };
  auto [ended, removed] =
      co_await (std::move(dump).commit() && run_blocking(thread, std::move(remove_network)));
  co_return ended;
}

awaitable<Result<Committed>> commit(Node& node, Staged staged) {
  const Config& config = node.config();
  Frozen& source = staged.source;
  Move move = source.peer.move;
  MigrationReport& report = *move.report;
  Result<json::object> running = fail(Errc::kUnavailable, "");
  if (staged.machine->state() == decision::Source::State::kWaiting) {
    report.enter("commit");
    running = co_await send_commit(node, source, *staged.machine);
    source.peer.stream.set_thawed();
    if (running) {
      const auto now = SteadyClock::now();
      report.times.network = number_or(*running, "network_ms");
      report.times.resume = elapsed_ms(staged.staged_at, now) - report.times.network;
      report.times.downtime = elapsed_ms(source.frozen_at, now);
    } else {
      const bool committed = co_await committed_after_all(node, source, staged.machine, running.error().message);
      report.times.downtime = elapsed_ms(source.frozen_at);
      if (!committed) co_return tl::unexpected<Error>(running.error());
    }
  }
  report.outcome = Outcome::kCommitted;
  report.enter("committed");
  // From here on it lives elsewhere, also for those who look for it.
  (void)move.container->set_state(ContainerState::kDraining, report.id, move.target);
  if (running) {
    auto held = co_await source.container.end_held(source.peer.link, config.timeouts.request);
    if (!held) report.warnings.push_back("frames held last: " + held.error().message);
    move.container->net().end_hold();
  }
  if (source.peer.server) {
    const auto start = SteadyClock::now();
    co_await drain(node, move.container, move.report, std::move(source.peer.server));
    report.times.drain = elapsed_ms(start);
    report.enter("committed");
  }
  const auto free_at = SteadyClock::now();
  auto ended = co_await errors_of(end_here(std::move(source.dump), *move.container), "end it");
  if (!ended) report.warnings.push_back("source: " + ended.error().message + ", ignored");
  Committed committed{std::move(move), free_at};
  co_return committed;
}

// The phases in which the target cannot have it yet, in order. An error in any of them has undone all before it.
awaitable<Result<Frozen>> until_frozen(Node& node, Move move) {
  MigrationReport& report = *move.report;
  const auto start = SteadyClock::now();
  CO_CHECK_OK(co_await check_ownership(node, move));
  CO_TRY(Connected connected, co_await connect(node, std::move(move)));
  report.times.preflight = elapsed_ms(start);
  CO_TRY(PreCopied pre_copied, co_await pre_copy(node, std::move(connected)));
  report.times.pre_copy = elapsed_ms(start) - report.times.preflight;
  co_return co_await freeze(node, std::move(pre_copied));
}

awaitable<Result<Committed>> run(Node& node, Move move) {
  CO_TRY(Frozen frozen, co_await until_frozen(node, std::move(move)));
  CO_TRY(Staged staged, co_await stage(node, std::move(frozen)));
  co_return co_await commit(node, std::move(staged));
}

// The same when its turn has come. A target that has no place for it is asked again.
awaitable<Result<Committed>> run_in_turn(Node& node, Move move, Turn& turn) {
  std::optional<Deadline> whole;
  for (;;) {
    CO_CHECK_OK(co_await turn.wait());
    if (!whole) {
      const Milliseconds limit = node.config().timeouts.total;
      whole.emplace(node.executor(), limit, [report = move.report, limit] {
        (void)report->cancellation.request("it was not over after timeouts.total (" +
                                           std::to_string(limit.count() / 1000) + " s)");
      });
    }
    move.report->target_busy = false;
    auto committed = co_await run(node, move);
    if (committed || !move.report->target_busy) co_return committed;
    CO_CHECK_OK(turn.put_off(committed.error()));
    move.asked_before = true;
  }
}

// The end, in the journal and the metrics.
void keep(Node& node, const std::shared_ptr<MigrationReport>& report) {
  JournalEntry entry = journal_entry(*report);
  entry.phase = to_string(report->outcome);
  entry.reason = report->error;
  node.journal().end(entry, to_json(*report));
  node.metrics().migration_ended(report);
}

void tell(const MigrationReport& report) {
  char downtime[32];
  std::snprintf(downtime, sizeof downtime, "%.0fms", report.times.downtime);
  char total[32];
  std::snprintf(total, sizeof total, "%.0fms", report.times.total);
  if (report.outcome == Outcome::kCommitted) {
    log::info(events::kMigrationCommitted, "migration committed",
              {{"migration", report.id},
               {"container", report.container},
               {"target", report.target},
               {"fabric", report.fabric},
               {"bytes", std::to_string(report.bytes_sent)},
               {"downtime", downtime},
               {"total", total}});
    return;
  }
  const bool on_request = report.cancellation.requested();
  log::error(on_request ? events::kMigrationAborted : events::kMigrationFailed,
             "migration aborted, the container runs on here",
             {{"migration", report.id},
              {"container", report.container},
              {"target", report.target},
              {"phase", report.phase},
              {"reason", report.error}});
}

}  // namespace

awaitable<Result<FrozenContainer>> FrozenContainer::freeze(std::shared_ptr<Container> container,
                                                           Milliseconds limit) {
  // Stopped first: what arrives until the plug is out still reaches the sockets and is dumped.
  CO_CHECK_OK(co_await container->cgroup().freeze(limit));
  FrozenContainer frozen(container);
  CO_CHECK_OK(container->net().unplug());
  co_return frozen;
}

FrozenContainer::~FrozenContainer() {
  if (!container_ || kept_) return;
  if (const auto repaired = end_repair_mode(container_->cgroup().pids()); repaired > 0) {
    log::warn("criu left connections in repair mode, ended it",
              {{"container", container_->spec().id}, {"connections", std::to_string(repaired)}});
  }
  auto plugged = container_->net().plug();
  deliver_held();
  auto thawed = container_->cgroup().thaw();
  if (!plugged || !thawed) {
    log::error("the container could not be let go on",
               {{"container", container_->spec().id},
                {"reason", !plugged ? plugged.error().message : thawed.error().message}});
  }
  (void)container_->net().announce();
}

namespace {

// After an exception once the target had the right to commit. Whether it has the container; if not, it goes on
// here.
awaitable<bool> given_all_the_same(Node& node, std::shared_ptr<Container> container,
                                   std::shared_ptr<MigrationReport> report, std::string why) {
  if (report->outcome == Outcome::kCommitted) {
    co_await end_left_over(node, std::move(container));
    co_return true;
  }
  if (container->state() != ContainerState::kInDoubt) co_return false;
  report->outcome = Outcome::kInDoubt;
  co_return co_await resolve(node, std::move(container), std::move(why));
}

// Once more without the memory engine, should that be what failed.
awaitable<Result<Committed>> attempt(Node& node, Move move) {
  MigrationReport& report = *move.report;
  Turn turn(node, move);
  auto committed = co_await errors_of(run_in_turn(node, move, turn), "migrate");
  if (committed || !report.retry_without_pages) co_return committed;
  report.warnings.push_back("the memory engine could not be used: " + committed.error().message +
                            "; moved through criu's images instead");
  log::warn("memory goes through criu's images", {{"migration", report.id}, {"reason", committed.error().message}});
  report.retry_without_pages = false;
  report.mode = MigrationMode::kCriuImages;
  // Should the target not have done it by then, the second attempt finds out.
  co_await wait_until_removed(node, move.target, report.id);
  co_return co_await errors_of(run_in_turn(node, move, turn), "migrate");
}

void go_on_here(Container& container, MigrationReport& report, const Error& error) {
  container.net().end_hold();
  (void)container.set_state(ContainerState::kRunning);
  report.error = report.cancellation.requested() ? report.cancellation.check().error().message : error.message;
  if (!container.init().running()) report.error = "the container ended meanwhile (" + report.error + ")";
  report.outcome = Outcome::kAborted;
}

}  // namespace

awaitable<void> migrate(Node& node, Move move) {
  const auto start = SteadyClock::now();
  std::shared_ptr<Container> container = move.container;
  std::shared_ptr<MigrationReport> report = move.report;
  log::info(events::kMigrationStarted, "migration begins",
            {{"migration", report->id},
             {"container", report->container},
             {"target", report->target},
             {"fabric", report->fabric},
             {"mode", to_string(report->mode)}});
  report->fixed_ms = fixed_live_ms(container->cgroup().pids().size());
  report->stopped_ms = predicted_downtime_ms(move, node);
  run_detached(node.executor(), "following a migration's progress", follow_progress(node, report));
  auto committed = co_await attempt(node, std::move(move));
  bool given = committed.has_value();
  if (given) {
    node.remove(container->spec().id);
    container->destroy();
    report->times.tidy = elapsed_ms(committed->free_at);
    report->times.total = elapsed_ms(start, committed->free_at);
  } else {
    given = co_await given_all_the_same(node, container, report, committed.error().message);
    report->times.total = elapsed_ms(start);
    if (given) {
      report->outcome = Outcome::kCommitted;
      report->warnings.push_back("source: " + committed.error().message + ", ignored");
    } else {
      go_on_here(*container, *report, committed.error());
    }
  }
  keep(node, report);
  tell(*report);
  if (!given && report->offered) {
    run_detached(node.executor(), "withdrawing an offer", withdraw(node.owners(), report->container, report->id));
  }
}

}  // namespace lifeboat
