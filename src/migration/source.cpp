#include "migration/source.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "base/file.hpp"
#include "base/log.hpp"
#include "criu_glue/repair.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

std::string seconds_text(double ms) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", ms / 1000);
  return text;
}

// Bytes over the wire plus CRIU's own 1.3 s per GB: the downtime of a stop-and-copy.
double predicted_downtime_ms(std::uint64_t bytes, std::uint64_t rate_bits_per_s) {
  const double wire = static_cast<double>(bytes) * 8 / static_cast<double>(rate_bits_per_s);
  return (wire + 1.3 * static_cast<double>(bytes) / 1e9 + 0.1) * 1000;
}

// Connections that would not survive the freeze: their own timers would end them.
Status check_sockets(const Move& move, const Node& node) {
  auto sockets = tcp_sockets(move.container->init().pid());
  if (!sockets) return {};
  const FabricConfig* fabric = node.config().find_fabric(move.fabric);
  const double downtime =
      predicted_downtime_ms(move.container->resident_bytes(), fabric->rate_bits_per_s);
  std::erase_if(*sockets, [&](const TcpSocket& socket) {
    return static_cast<double>(socket.expires.count()) > downtime;
  });
  const auto risks = keepalive_risks(*sockets);
  if (risks.empty()) return {};
  return fail(Errc::kRefused,
              "about " + seconds_text(downtime) +
                  " of downtime would outlast the keepalive timer of " +
                  std::to_string(risks.size()) + " connection(s), first " + risks.front() +
                  "; start the job with keepalive off (lifeboat run does) or use a faster fabric");
}

awaitable<Result<Connected>> connect(Node& node, Move move) {
  move.report->phase = "connect";
  CO_CHECK_OK(check_compatible(node.facts(), node.facts()));  // is there a working CRIU here?
  CO_CHECK_OK(check_user(move.container->init_uid()));
  CO_CHECK_OK(check_sources(move.container->spec()));
  CO_CHECK_OK(check_sockets(move, node));
  const Config& config = node.config();
  const std::string address = config.find_node(move.target)->addresses.at(move.fabric);
  auto link = co_await Link::connect(address, config.peer_port, node.peer_name(),
                                     config.timeouts.connect);
  if (!link) {
    co_return tl::unexpected<Error>(
        link.error().context("node " + move.target + " on fabric " + move.fabric));
  }
  json::object offer{{"migration", move.report->id},
                     {"source", node.name()},
                     {"spec", to_json(move.container->spec())},
                     {"resident_bytes", move.container->resident_bytes()},
                     {"facts", to_json(node.facts())}};
  CO_CHECK_OK(co_await link->send(Kind::kOffer, std::move(offer), config.timeouts.request));
  auto accepted = co_await link->expect(Kind::kAccepted, config.timeouts.request);
  if (!accepted) {
    co_return tl::unexpected<Error>(accepted.error().context("node " + move.target));
  }
  Connected connected{std::move(move), std::move(*link)};
  co_return connected;
}

// Sends image bytes until the dump is complete and everything is sent.
awaitable<Status> send_images(ImageReader& reader, Link& link, const bool& dump_ended,
                              Milliseconds idle) {
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
    } else if (complete) {
      co_return Status{};
    } else {
      co_await sleep_for(Milliseconds(1));
    }
  }
}

awaitable<Result<HeldDump>> dump_then(DumpRequest request, bool& ended,
                                      SteadyClock::time_point& ended_at) {
  auto held = co_await HeldDump::start(std::move(request));
  ended_at = SteadyClock::now();
  ended = true;
  co_return held;
}

DumpRequest dump_request(const Node& node, const Container& container,
                         const ImageDirectory& images, std::vector<ExternalMount> mounts) {
  const Config& config = node.config();
  DumpRequest request;
  request.paths.criu = config.paths.criu;
  request.paths.images = images.path();
  request.paths.log = container.directory() + "/dump.log";
  request.init = container.init().pid();
  request.freeze_cgroup = container.cgroup().path();
  request.mounts = std::move(mounts);
  request.limit = config.timeouts.dump;
  return request;
}

// A connection that is half-way made, or made and not yet accepted, cannot be dumped. They last for
// a moment: if the freeze hits one, the container goes on for that moment and is frozen again.
awaitable<Result<FrozenContainer>> freeze_between_connects(std::shared_ptr<Container> container,
                                                           Milliseconds limit,
                                                           SteadyClock::time_point& frozen_at,
                                                           std::vector<TcpSocket>& sockets) {
  const auto deadline = SteadyClock::now() + limit;
  for (;;) {
    frozen_at = SteadyClock::now();
    CO_TRY(FrozenContainer frozen, co_await FrozenContainer::freeze(container, limit));
    CO_TRY(sockets, tcp_sockets(container->init().pid()));
    const auto found = std::find_if(sockets.begin(), sockets.end(), is_in_flight);
    if (found == sockets.end()) co_return frozen;
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

awaitable<Result<Frozen>> freeze(Node& node, Connected peer) {
  using namespace asio::experimental::awaitable_operators;
  const Config& config = node.config();
  MigrationReport& report = *peer.move.report;
  std::shared_ptr<Container> container = peer.move.container;
  CO_TRY(std::vector<ExternalMount> mounts, external_mounts(container->spec()));
  CO_TRY(ImageDirectory images, ImageDirectory::create(config.paths.run_dir + "/images", report.id));

  report.phase = "freeze";
  SteadyClock::time_point frozen_at;
  std::vector<TcpSocket> sockets;
  CO_TRY(FrozenContainer frozen,
         co_await freeze_between_connects(container, config.timeouts.freeze, frozen_at, sockets));
  report.times.freeze = elapsed_ms(frozen_at);
  report.resident_bytes = container->resident_bytes();

  report.phase = "dump";
  const auto stopped_at = SteadyClock::now();
  SteadyClock::time_point dumped_at;
  bool dump_ended = false;
  auto reader = std::make_unique<ImageReader>(images.path());
  DumpRequest request = dump_request(node, *container, images, std::move(mounts));
  request.netns_fd = container->net().netns_fd();
  auto [held, sent] =
      co_await (dump_then(std::move(request), dump_ended, dumped_at) &&
                send_images(*reader, peer.link, dump_ended, config.timeouts.idle));
  if (!held) co_return tl::unexpected<Error>(held.error());
  if (!sent) {
    report.phase = "transfer";
    co_return tl::unexpected<Error>(sent.error());
  }
  report.times.dump = elapsed_ms(stopped_at, dumped_at);
  Frozen result{std::move(peer),
                   std::move(sockets),
                   std::make_unique<ImageDirectory>(std::move(images)),
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
  json::array established;
  for (const std::string& line : established_pairs(source.sockets)) established.emplace_back(line);
  json::object end{{"files", std::move(sizes)}, {"established", std::move(established)}};
  CO_CHECK_OK(co_await source.peer.link.send(Kind::kImageEnd, std::move(end), config.timeouts.idle));
  auto staged = co_await source.peer.link.expect(Kind::kStaged, config.timeouts.restore);
  if (!staged) {
    co_return tl::unexpected<Error>(
        staged.error().context("node " + source.peer.move.target));
  }
  const auto now = SteadyClock::now();
  report.times.restore = number_or(*staged, "restore_ms");
  report.times.transfer = elapsed_ms(source.dumped_at, now) - report.times.restore;
  report.bytes_sent = source.peer.link.bytes_sent();
  Staged result{std::move(source), now};
  co_return result;
}

// Asks the target until it answers, over every fabric in turn.
awaitable<Outcome> ask_outcome(Node& node, const std::string& target, const std::string& migration) {
  const Config& config = node.config();
  const NodeConfig* peer = config.find_node(target);
  // A node that is no longer configured may still run the container: then only a person, or a
  // configuration that names it again, ends the doubt.
  const std::map<std::string, std::string> nowhere;
  for (std::size_t attempt = 0;; ++attempt) {
    for (const auto& [fabric, address] : peer != nullptr ? peer->addresses : nowhere) {
      auto link = co_await Link::connect(address, config.peer_port, node.peer_name(),
                                         config.timeouts.connect);
      if (!link) continue;
      json::object request{{"method", "migration.outcome"}, {"params", json::object{{"id", migration}}}};
      auto sent = co_await link->send(Kind::kRequest, std::move(request), config.timeouts.request);
      if (!sent) continue;
      auto answer = co_await link->expect(Kind::kResponse, config.timeouts.request);
      const std::string outcome = answer ? string_or(*answer, "outcome") : "";
      if (outcome == to_string(Outcome::kCommitted)) co_return Outcome::kCommitted;
      if (outcome == to_string(Outcome::kAborted)) co_return Outcome::kAborted;
    }
    if (attempt == 0) {
      log::warn("the target does not say how the migration ended; the container stays frozen",
                {{"migration", migration}, {"target", target}});
    }
    co_await sleep_for(Milliseconds(attempt < 10 ? 200 : 2000));
  }
}

awaitable<Result<json::object>> send_commit(Link& link, const Timeouts& timeouts) {
  json::object nothing;
  CO_CHECK_OK(co_await link.send(Kind::kCommit, std::move(nothing), timeouts.request));
  co_return co_await link.expect(Kind::kRunning, timeouts.commit);
}

awaitable<Result<Committed>> commit(Node& node, Staged staged) {
  const Config& config = node.config();
  Frozen& source = staged.source;
  Move move = source.peer.move;
  MigrationReport& report = *move.report;
  report.phase = "commit";
  // Point of no return: once this record is written, only the target's word thaws the container.
  CO_CHECK_OK(move.container->set_state(ContainerState::kInDoubt, report.id, move.target));
  source.container.keep_frozen(true);
  Outcome outcome = Outcome::kInDoubt;
  auto running = co_await send_commit(source.peer.link, config.timeouts);
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
  auto ended = co_await std::move(source.dump).commit();
  if (!ended) report.warnings.push_back("source: " + ended.error().message + ", ignored");
  Committed committed{std::move(move)};
  co_return committed;
}

// The phases, in order. An error in any of them has undone all before it.
awaitable<Result<Committed>> run(Node& node, Move move) {
  MigrationReport& report = *move.report;
  const auto start = SteadyClock::now();
  CO_TRY(Connected connected, co_await connect(node, std::move(move)));
  report.times.preflight = elapsed_ms(start);
  CO_TRY(Frozen frozen, co_await freeze(node, std::move(connected)));
  CO_TRY(Staged staged, co_await stage(node, std::move(frozen)));
  co_return co_await commit(node, std::move(staged));
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
  CO_CHECK_OK(container->set_state(ContainerState::kLeaving, report->id, move.target));
  auto committed = co_await run(node, std::move(move));
  report->times.total = elapsed_ms(start);
  if (committed) {
    node.remove(container->spec().id);
    container->destroy();
    report->times.total = elapsed_ms(start);
    tell(*report);
    co_return Status{};
  }
  (void)container->set_state(ContainerState::kRunning);
  report->error = committed.error().message;
  report->outcome = Outcome::kAborted;
  tell(*report);
  co_return tl::unexpected<Error>(committed.error());
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
}

awaitable<void> resolve(Node& node, std::shared_ptr<Container> container) {
  const Outcome outcome =
      co_await ask_outcome(node, container->migration_peer(), container->migration());
  log::info("in-doubt migration resolved", {{"migration", container->migration()},
                                            {"container", container->spec().id},
                                            {"outcome", to_string(outcome)}});
  if (outcome == Outcome::kCommitted) {
    node.remove(container->spec().id);
    container->destroy();
    co_return;
  }
  co_await resume_left_over(container);
}

}  // namespace lifeboat
