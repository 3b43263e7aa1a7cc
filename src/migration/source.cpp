#include "migration/source.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/log.hpp"
#include "criu_glue/pagemap_image.hpp"
#include "criu_glue/repair.hpp"
#include "migration/drain.hpp"
#include "migration/hold_link.hpp"
#include "migration/outcome.hpp"
#include "migration/turn.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

// Sends image bytes until the dump is complete and everything is sent.
awaitable<Status> send_images(ImageReader& reader, Link& link, const bool& dump_ended,
                              Milliseconds idle, MemoryProgress& progress) {
  std::vector<unsigned char> buffer(protocol::kDataBytesMax);
  std::size_t announced = 0;
  for (;;) {
    const bool complete = dump_ended;  // read before scanning: what is there then is all
    CO_CHECK_OK(reader.scan(complete));
    for (; announced < reader.files().size(); ++announced) {
      json::object open{{"file", announced}, {"name", reader.files()[announced].name}};
      CO_CHECK_OK(co_await link.send(Kind::kImageOpen, std::move(open), idle));
    }
    CO_TRY(const ImageChunk chunk, reader.next(buffer.data(), buffer.size()));
    if (chunk.size > 0) {
      CO_CHECK_OK(
          co_await link.send_data(chunk.file, chunk.offset, buffer.data(), chunk.size, idle));
      progress.bytes_sent += chunk.size;
    } else if (complete) {
      co_return Status{};
    } else {
      co_await sleep_for(Milliseconds(1));
    }
  }
}

awaitable<Result<HeldDump>> dump_then(PreparedDump dump, const Cgroup& cgroup, bool& ended,
                                      SteadyClock::time_point& ended_at) {
  auto held = co_await std::move(dump).start();
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
    peer.server = peer.memory->serve_rest(std::move(peer.urgent));
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

// A connection that is half-way made, or made and not yet accepted, cannot be dumped. They last for
// a moment: if the freeze hits one, the container goes on for that moment and is frozen again.
awaitable<Result<FrozenContainer>> freeze_between_connects(std::shared_ptr<Container> container,
                                                           Milliseconds limit,
                                                           SteadyClock::time_point& frozen_at,
                                                           NetworkState& network) {
  const auto deadline = SteadyClock::now() + limit;
  for (;;) {
    frozen_at = SteadyClock::now();
    CO_TRY(FrozenContainer frozen, co_await FrozenContainer::freeze(container, limit));
    CO_TRY(const std::vector<TcpSocket> sockets, container->net().tcp_sockets());
    const auto found = std::find_if(sockets.begin(), sockets.end(), is_in_flight);
    if (found == sockets.end()) {
      network.established = established_pairs(sockets);
      CO_TRY(network.neighbours, container->net().neighbours());
      co_return frozen;
    }
    if (SteadyClock::now() > deadline) {
      co_return fail(Errc::kTimeout, "connection " + to_string(*found) + " is never accepted or made;"
                                     " it cannot be moved like that");
    }
    {
      const FrozenContainer let_go = std::move(frozen);
    }
    co_await sleep_for(Milliseconds(10));
  }
}

// Tells CRIU's helper library which mappings are ours.
Status hide_owned(Connected& peer, PreparedDump& dump) {
  if (!peer.memory) return {};
  TRY(const std::vector<OwnedMappings> owned, peer.memory->note_owned());
  std::vector<HiddenRange> hidden;
  for (const OwnedMappings& process : owned) {
    for (const AddressRange& range : process.mappings) {
      hidden.push_back({static_cast<std::uint32_t>(process.pid), range.start, range.end});
    }
  }
  return dump.hidden()->set(std::move(hidden));
}

awaitable<Result<Frozen>> freeze(Node& node, PreCopied source) {
  using namespace asio::experimental::awaitable_operators;
  const Config& config = node.config();
  Connected& peer = source.peer;
  MigrationReport& report = *peer.move.report;
  std::shared_ptr<Container> container = peer.move.container;

  CO_CHECK_OK(co_await peer.stream.wait_for_turn(report.cancellation, config.timeouts.queue));
  CO_CHECK_OK(report.cancellation.check());
  report.phase = "freeze";
  peer.stream.set_frozen();
  SteadyClock::time_point frozen_at;
  NetworkState network;
  prepare_hold(config.network.hold, *container, report);
  CO_TRY(FrozenContainer frozen,
         co_await freeze_between_connects(container, config.timeouts.freeze, frozen_at, network));
  if (peer.memory) source.dump.read_ahead(container->cgroup().pids(), peer.memory->smaps());
  frozen.count_held_in(peer.move.report);
  CO_CHECK_OK(hide_owned(peer, source.dump));
  report.times.freeze = elapsed_ms(frozen_at);
  report.resident_bytes = container->resident_bytes();

  report.phase = "dump";
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
                send_memory(peer, config.timeouts.idle) &&
                send_images(*reader, peer.link, dump_ended, config.timeouts.idle, *report.progress) &&
                peer.layers->send_frozen(peer.link, report.layer, config.timeouts.idle));
  if (!held) co_return tl::unexpected<Error>(held.error());
  report.memory.criu_dump_ms = elapsed_ms(stopped_at, dumped_at);
  auto checked = check_dump(peer, *source.images);
  if (!checked) {
    report.retry_without_pages = true;
    co_return tl::unexpected<Error>(checked.error());
  }
  for (const Status& sent : {memory_sent, images_sent, layers_sent}) {
    if (sent) continue;
    report.phase = "transfer";
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
                frozen_at,
                dumped_at};
  co_return result;
}

awaitable<Result<Staged>> stage(Node& node, Frozen source) {
  const Config& config = node.config();
  MigrationReport& report = *source.peer.move.report;
  report.phase = "restore";
  json::object sizes;
  for (const ImageReader::File& file : source.reader->files()) sizes[file.name] = file.sent;
  CO_CHECK_OK(co_await source.container.send_held(source.peer.link, config.timeouts.idle));
  json::object end{{"files", std::move(sizes)}};
  add_to(end, source.network);
  CO_CHECK_OK(co_await source.peer.link.send(Kind::kImageEnd, std::move(end), config.timeouts.idle));
  const auto hook =
      report.cancellation.on_request([link = &source.peer.link] { link->close(); });
  auto staged = co_await source.peer.link.expect(Kind::kStaged, config.timeouts.restore);
  if (!staged) {
    co_return tl::unexpected<Error>(
        staged.error().context("node " + source.peer.move.target));
  }
  const auto now = SteadyClock::now();
  report.times.restore = number_or(*staged, "restore_ms");
  report.times.transfer = elapsed_ms(source.dumped_at, now) - report.times.restore;
  report.bytes_sent = source.peer.link.bytes_sent();
  if (source.peer.memory) report.bytes_sent += source.peer.memory->bytes_on_wire();
  Staged result{std::move(source), now};
  co_return result;
}

awaitable<Result<json::object>> send_commit(Link& link, const Timeouts& timeouts) {
  json::object nothing;
  CO_CHECK_OK(co_await link.send(Kind::kCommit, std::move(nothing), timeouts.request));
  co_return co_await link.expect(Kind::kRunning, timeouts.commit);
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
  report.phase = "commit";
  CO_CHECK_OK(co_await source.container.send_held(source.peer.link, config.timeouts.idle));
  CO_CHECK_OK(report.cancellation.pass_point_of_no_return());
  // Point of no return: once this record is written, only the target's word thaws the container.
  CO_CHECK_OK(move.container->set_state(ContainerState::kInDoubt, report.id, move.target));
  source.container.keep_frozen(true);
  Outcome outcome = Outcome::kInDoubt;
  auto running = co_await send_commit(source.peer.link, config.timeouts);
  source.peer.stream.set_thawed();
  if (running) {
    const auto now = SteadyClock::now();
    report.times.network = number_or(*running, "network_ms");
    report.times.resume = elapsed_ms(staged.staged_at, now) - report.times.network;
    report.times.downtime = elapsed_ms(source.frozen_at, now);
    outcome = Outcome::kCommitted;
  } else {
    report.outcome = Outcome::kInDoubt;
    outcome = co_await ask_outcome(node, move.target, report.id);
    report.times.downtime = elapsed_ms(source.frozen_at);
  }
  if (outcome != Outcome::kCommitted) {
    source.container.keep_frozen(false);
    co_return tl::unexpected<Error>(running.error());
  }
  report.outcome = Outcome::kCommitted;
  report.phase = "committed";
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
    report.phase = "committed";
  }
  const auto free_at = SteadyClock::now();
  auto ended = co_await errors_of(end_here(std::move(source.dump), *move.container), "end it");
  if (!ended) report.warnings.push_back("source: " + ended.error().message + ", ignored");
  Committed committed{std::move(move), free_at};
  co_return committed;
}

// The phases before the commit, in order. An error in any of them has undone all before it.
awaitable<Result<Staged>> until_staged(Node& node, Move move) {
  MigrationReport& report = *move.report;
  const auto start = SteadyClock::now();
  CO_TRY(Connected connected, co_await connect(node, std::move(move)));
  report.times.preflight = elapsed_ms(start);
  CO_TRY(PreCopied pre_copied, co_await pre_copy(node, std::move(connected)));
  report.times.pre_copy = elapsed_ms(start) - report.times.preflight;
  CO_TRY(Frozen frozen, co_await freeze(node, std::move(pre_copied)));
  co_return co_await stage(node, std::move(frozen));
}

awaitable<Result<Committed>> run(Node& node, Move move) {
  CO_TRY(Staged staged, co_await errors_of(until_staged(node, std::move(move)), "migrate"));
  co_return co_await commit(node, std::move(staged));
}

// The same when its turn has come. A target that has no place for it is asked again.
awaitable<Result<Committed>> run_in_turn(Node& node, Move move, Turn& turn) {
  for (;;) {
    CO_CHECK_OK(co_await turn.wait());
    move.report->target_busy = false;
    auto committed = co_await run(node, move);
    if (committed || !move.report->target_busy) co_return committed;
    CO_CHECK_OK(turn.put_off(committed.error()));
  }
}

void tell(const MigrationReport& report) {
  char downtime[32];
  std::snprintf(downtime, sizeof downtime, "%.0fms", report.times.downtime);
  char total[32];
  std::snprintf(total, sizeof total, "%.0fms", report.times.total);
  if (report.outcome == Outcome::kCommitted) {
    log::info("migration committed", {{"migration", report.id},
                                      {"container", report.container},
                                      {"target", report.target},
                                      {"fabric", report.fabric},
                                      {"bytes", std::to_string(report.bytes_sent)},
                                      {"downtime", downtime},
                                      {"total", total}});
  } else {
    log::error("migration aborted, the container runs on here", {{"migration", report.id},
                                                                  {"container", report.container},
                                                                  {"target", report.target},
                                                                  {"phase", report.phase},
                                                                  {"reason", report.error}});
  }
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

awaitable<Status> migrate(Node& node, Move move) {
  const auto start = SteadyClock::now();
  std::shared_ptr<Container> container = move.container;
  std::shared_ptr<MigrationReport> report = move.report;
  report->stopped_ms = predicted_downtime_ms(move, node);
  asio::co_spawn(node.executor(), follow_progress(node, report), asio::detached);
  Turn turn(node, move);
  auto committed = co_await run_in_turn(node, move, turn);
  if (!committed && report->retry_without_pages) {
    report->warnings.push_back("the memory engine could not be used: " + committed.error().message +
                               "; moved through criu's images instead");
    log::warn("memory goes through criu's images", {{"migration", report->id},
                                                    {"reason", committed.error().message}});
    report->retry_without_pages = false;
    report->mode = MigrationMode::kCriuImages;
    // Until the target has removed what the first attempt left there. Should it not say so, the
    // second one finds out.
    constexpr std::size_t kAttempts = 10;
    (void)co_await ask_outcome(node, move.target, report->id, kAttempts);
    committed = co_await run_in_turn(node, move, turn);
  }
  if (committed) {
    node.remove(container->spec().id);
    container->destroy();
    report->times.tidy = elapsed_ms(committed->free_at);
    report->times.total = elapsed_ms(start, committed->free_at);
    tell(*report);
    co_return Status{};
  }
  report->times.total = elapsed_ms(start);
  container->net().end_hold();
  (void)container->set_state(ContainerState::kRunning);
  report->error = report->cancellation.requested() ? report->cancellation.check().error().message
                                                   : committed.error().message;
  if (!container->init().running()) report->error = "the container ended meanwhile (" + report->error + ")";
  report->outcome = Outcome::kAborted;
  tell(*report);
  co_return tl::unexpected<Error>(committed.error());
}

}  // namespace lifeboat
