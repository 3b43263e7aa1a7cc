// The second phase of a migration, at the source: memory is sent while the container runs, and CRIU
// made ready; and what can be said of a migration beforehand.
#include "base/log.hpp"
#include "migration/phase.hpp"
#include "migration/source.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <limits>

namespace lifeboat {

namespace {

DumpRequest dump_request(const Node& node, Container& container,
                         const ImageDirectory& images, std::vector<ExternalMount> mounts) {
  const Config& config = node.config();
  DumpRequest request;
  request.paths.criu = config.paths.criu;
  request.paths.images = images.path();
  request.paths.log = container.directory() + "/dump.log";
  request.init = container.init().pid();
  request.netns_fd = container.net().netns_fd();
  request.mounts = std::move(mounts);
  request.limit = config.timeouts.dump;
  return request;
}

PrecopyLimits precopy_limits(const Node& node, const Move& move) {
  const EngineConfig& engine = node.config().engine;
  const auto seconds = [](Milliseconds ms) { return static_cast<double>(ms.count()) / 1000; };
  PrecopyLimits limits;
  limits.downtime_budget_s = seconds(engine.downtime_budget);
  limits.deadline_s = seconds(engine.precopy_limit);
  limits.rounds_max = static_cast<unsigned>(engine.rounds_max);
  if (move.report->mode == MigrationMode::kHybrid) {
    // All pages once, and once more those that were written meanwhile; the rest comes when it runs.
    constexpr unsigned kHybridRounds = 2;
    limits.rounds_max = std::min(limits.rounds_max, kHybridRounds);
  }
  limits.interval_s = seconds(engine.round_interval);
  limits.patterns = engine.patterns;
  // Who wants to see where rounds without a law lead wants to see all of them.
  if (!engine.patterns) limits.bytes_max_factor = std::numeric_limits<double>::max();
  limits.rate_bytes_per_s =
      static_cast<double>(node.config().find_fabric(move.fabric)->rate_bits_per_s) / 8;
  if (move.bytes_per_s > 0) {
    limits.rate_bytes_per_s = std::min(limits.rate_bytes_per_s, static_cast<double>(move.bytes_per_s));
  }
  return limits;
}

// What the freeze is allowed to last where others wait for it to be over.
constexpr double kFreezeMs = 170;

// The deadline has passed already: one round, and no more.
constexpr double kNoTime = 1e-3;

std::string untracked_warning(const std::string& reason) {
  return "memory could not be sent while the container ran: " + reason;
}

// How long the first round is expected to send.
double whole_s(const Connected& peer, const PrecopyLimits& limits) {
  double rate = limits.rate_bytes_per_s;
  const std::uint64_t share = peer.stream.limit();
  if (share > 0) rate = std::min(rate, static_cast<double>(share));
  return static_cast<double>(peer.move.container->resident_bytes()) / rate;
}

// Rounds while the container runs, until the control law says that the rest is better sent frozen.
awaitable<Status> send_rounds(Node& node, Connected& peer) {
  Move& move = peer.move;
  MigrationReport& report = *move.report;
  const SteadyClock::time_point created = peer.memory->created();
  PrecopyLimits limits = precopy_limits(node, move);
  if (move.leave_by) {
    const double left_s = (elapsed_ms(created, *move.leave_by) - kFreezeMs) / 1000;
    limits.deadline_s = std::clamp(left_s, kNoTime, limits.deadline_s);
  }
  std::vector<RoundMeasurement> rounds;
  MemorySource::Round how;
  std::optional<double> rest_s;  // to send what is dirty
  for (;;) {
    CO_CHECK_OK(report.cancellation.check());
    report.enter("pre-copy");
    const bool last = peer.stream.has_turn();  // it came after waiting
    peer.stream.set_sending(true);
    how.goes_first = move.leave_by && goes_first(elapsed_ms(created) / 1000,
                                                 rest_s.value_or(whole_s(peer, limits)), limits);
    auto sent = co_await peer.memory->round(how);
    peer.stream.set_sending(false);
    CO_TRY(const RoundMeasurement round, std::move(sent));
    rounds.push_back(round);
    PrecopyDecision decision = decide(rounds, move.container->resident_bytes(), limits);
    rest_s = decision.expected_downtime_s;
    if (last) {
      decision.reason = "the last one, after others had been frozen: " + decision.reason;
      decision.freeze = true;
    }
    report.rounds.push_back(RoundReport{round, decision, how.goes_first});
    if (last) co_return Status{};
    if (decision.freeze) {
      // While others are frozen it goes on as before.
      const bool at_once = co_await peer.stream.take_turn(node.config().engine.round_interval);
      if (at_once) co_return Status{};
    }
    how.hold_back = decision.hold_back_hot;
    const auto until = SteadyClock::now() + std::chrono::microseconds(
                                                static_cast<long>(decision.wait_s * 1e6));
    constexpr Milliseconds kSlice{50};  // a wish to cancel is heard so soon
    while (SteadyClock::now() < until && !report.cancellation.requested()) {
      const auto left = std::chrono::duration_cast<Milliseconds>(until - SteadyClock::now());
      co_await sleep_for(std::clamp(left, Milliseconds(1), kSlice));
    }
  }
}

// Files, then memory, then the files that were written meanwhile: little is left for the freeze.
awaitable<Status> send_while_running(Node& node, Connected& peer) {
  MigrationReport& report = *peer.move.report;
  const Milliseconds idle = node.config().timeouts.idle;
  report.enter("layer");
  report.layer = LayerReport();
  CO_CHECK_OK(co_await peer.layers->send_running(peer.link, report.layer, idle));
  if (report.mode == MigrationMode::kPreCopy || report.mode == MigrationMode::kHybrid) {
    CO_CHECK_OK(co_await send_rounds(node, peer));
    report.memory.untracked_reason = peer.memory->untracked_reason();
    if (!report.memory.untracked_reason.empty()) {
      report.warnings.push_back(untracked_warning(report.memory.untracked_reason));
      log::warn("memory could not be sent while the container ran",
                {{"container", report.container}, {"id", report.id}, {"reason", report.memory.untracked_reason}});
    }
  }
  report.enter("layer");
  co_return co_await peer.layers->send_running(peer.link, report.layer, idle);
}

}  // namespace

awaitable<Result<PreCopied>> pre_copy(Node& node, Connected peer) {
  using namespace asio::experimental::awaitable_operators;
  const Config& config = node.config();
  MigrationReport& report = *peer.move.report;
  const auto hook =
      report.cancellation.on_request([link = &peer.link, memory = peer.memory.get()] {
        link->close();
        if (memory != nullptr) memory->cancel();
      });
  CO_TRY(ImageDirectory images, ImageDirectory::create(config.paths.run_dir + "/images", report.id));
  CO_TRY(std::vector<ExternalMount> mounts, external_mounts(peer.move.container->spec()));
  for (const TmpfsMount& mount : peer.layers->tmpfs()) mounts.push_back({mount.target, ""});
  DumpRequest request = dump_request(node, *peer.move.container, images, std::move(mounts));
  if (peer.memory) request.hide_library = node.libexec() + "/liblifeboat-criu.so";
  // CRIU starts and looks at the kernel meanwhile.
  auto [dump, sent] =
      co_await (errors_of(PreparedDump::prepare(std::move(request)), "start criu") &&
                errors_of(send_while_running(node, peer), "send memory"));
  CO_CHECK_OK(sent);
  report.enter("prepare");  // until its turn to freeze has come
  if (!dump) co_return tl::unexpected<Error>(dump.error());
  PreCopied result{std::move(peer), std::make_unique<ImageDirectory>(std::move(images)),
                   std::move(*dump)};
  co_return result;
}

namespace {

awaitable<Result<json::object>> watch_and_predict(Node& node, Move move, MigrationMode mode) {
  const std::shared_ptr<Container> container = move.container;
  const std::string fabric = move.fabric;
  move.report->mode = mode;
  const PrecopyLimits limits = precopy_limits(node, move);
  const double stopped_ms = predicted_downtime_ms(move, node);
  move.report->mode = MigrationMode::kPreCopy;  // for the connections, and to watch its writes
  CO_TRY(Connected connected, co_await connect(node, std::move(move)));
  CO_TRY(const WriteSample sample, co_await connected.memory->sample());
  const std::uint64_t resident = container->resident_bytes();
  const std::string untracked = connected.memory->untracked_reason();
  const bool live = mode == MigrationMode::kPreCopy && untracked.empty();
  PrecopyForecast rounds;
  if (live) rounds = forecast_rounds(sample, resident, limits);
  const double downtime_ms =
      live ? fixed_live_ms(container->cgroup().pids().size()) + rounds.last.expected_downtime_s * 1000 : stopped_ms;
  const std::uint64_t layer_bytes =
      connected.layers->upper_bytes() + connected.layers->tmpfs_bytes();
  const double running_ms =
      rounds.rounds_s * 1000 + static_cast<double>(layer_bytes) / limits.rate_bytes_per_s * 1000;
  const double dirty_bytes =
      sample.late_s > 0 ? static_cast<double>(sample.late_pages * kPageBytes) / sample.late_s : 0;
  json::object answer{{"container", container->spec().id}, {"fabric", fabric},
                      {"mode", to_string(mode)},           {"resident_bytes", resident},
                      {"dirty_bytes_per_s", dirty_bytes},  {"downtime_ms", downtime_ms},
                      {"layer_bytes", layer_bytes},
                      {"layer_files", connected.layers->files()},
                      {"rounds", rounds.rounds},
                      {"total_ms", running_ms + downtime_ms}};
  if (!untracked.empty()) answer["warnings"] = json::array{json::value(untracked_warning(untracked))};
  co_return answer;
}

}  // namespace

awaitable<Result<json::object>> predict(Node& node, Move move, MigrationMode mode) {
  const std::shared_ptr<Container> container = move.container;
  // It is looked at with its tasks frozen for a moment: no migration may go on meanwhile.
  const Status leaving = container->set_state(ContainerState::kLeaving, move.report->id, move.target);
  Result<json::object> answer = json::object{};
  if (leaving) answer = co_await watch_and_predict(node, std::move(move), mode);
  (void)container->set_state(ContainerState::kRunning);
  if (!leaving) co_return tl::unexpected<Error>(leaving.error());
  co_return answer;
}

}  // namespace lifeboat
