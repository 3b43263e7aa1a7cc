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

constexpr double kLongMs = 20;  // a round of what is written in less than that takes less

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

// Rounds while the container runs.
class Rounds {
 public:
  Rounds(Node& node, Connected& peer) : node_(&node), peer_(&peer), limits_(precopy_limits(node, peer.move)) {
    if (!peer.move.leave_by) return;
    const double left_s = (elapsed_ms(peer.memory->created(), *peer.move.leave_by) - kFreezeMs) / 1000;
    limits_.deadline_s = std::clamp(left_s, kNoTime, limits_.deadline_s);
  }

  // Until the control law says that the rest is better sent frozen, and it is this container's turn. `beside` the first
  // round goes what else there is to send.
  awaitable<Status> run(awaitable<Status> beside) {
    CO_TRY(PrecopyDecision decision, co_await first_round(std::move(beside)));
    for (;;) {
      // While others are frozen it goes on as before.
      if (decision.freeze && co_await peer_->stream.take_turn(node_->config().engine.round_interval)) {
        co_return Status{};
      }
      how_.hold_back = decision.hold_back_hot;
      co_await wait(decision.wait_s);
      const bool last = peer_->stream.has_turn();  // it came after waiting
      CO_TRY(decision, co_await round(last ? "others had been frozen" : ""));
      if (last) co_return Status{};
    }
  }

  // One more, after which the law is not asked.
  awaitable<Status> once_more(const std::string& why) {
    how_.hold_back = false;
    CO_TRY(const PrecopyDecision decision, co_await round(why));
    (void)decision;
    co_return Status{};
  }

 private:
  awaitable<Result<PrecopyDecision>> first_round(awaitable<Status> beside) {
    using namespace asio::experimental::awaitable_operators;
    // A target that gives up ends its page connections before it says why.
    constexpr Milliseconds kToSayWhy{1000};
    const auto executor = co_await asio::this_coro::executor;
    SteadyClock::time_point over;
    std::optional<Deadline> memory_failed;
    const auto memory = [&]() -> awaitable<Result<PrecopyDecision>> {
      auto decision = co_await errors_of(round(""), "send memory");
      over = SteadyClock::now();
      if (!decision) memory_failed.emplace(executor, kToSayWhy, [this] { peer_->link.close(); });
      if (decision) peer_->move.report->enter("layer");  // if there is something left of that
      co_return decision;
    };
    const auto others = [&]() -> awaitable<Status> {
      Status sent = co_await errors_of(std::move(beside), "send files");
      if (!sent) peer_->memory->cancel();
      co_return sent;
    };
    auto [decision, sent] = co_await (memory() && others());
    if (!sent && !(memory_failed && memory_failed->expired())) co_return tl::unexpected<Error>(sent.error());
    // It was decided for a freeze that comes at once.
    if (decision && elapsed_ms(over) > kLongMs) co_return co_await round("");
    co_return decision;
  }

  // `last_for`: why it is the last one in any case.
  awaitable<Result<PrecopyDecision>> round(const std::string& last_for) {
    const Move& move = peer_->move;
    MigrationReport& report = *move.report;
    CO_CHECK_OK(report.cancellation.check());
    report.enter("pre-copy");
    peer_->stream.set_sending(true);
    how_.goes_first = move.leave_by && goes_first(elapsed_ms(peer_->memory->created()) / 1000,
                                                  rest_s_.value_or(whole_s(*peer_, limits_)), limits_);
    auto sent = co_await peer_->memory->round(how_);
    peer_->stream.set_sending(false);
    CO_TRY(const RoundMeasurement measured, std::move(sent));
    rounds_.push_back(measured);
    PrecopyDecision decision = decide(rounds_, move.container->resident_bytes(), limits_);
    rest_s_ = decision.expected_downtime_s;
    if (!last_for.empty()) {
      decision.reason = "the last one, after " + last_for + ": " + decision.reason;
      decision.freeze = true;
    }
    report.rounds.push_back(RoundReport{measured, decision, how_.goes_first});
    co_return decision;
  }

  awaitable<void> wait(double seconds) const {
    const auto until = SteadyClock::now() + std::chrono::microseconds(static_cast<long>(seconds * 1e6));
    constexpr Milliseconds kSlice{50};  // a wish to cancel is heard so soon
    while (SteadyClock::now() < until && !peer_->move.report->cancellation.requested()) {
      const auto left = std::chrono::duration_cast<Milliseconds>(until - SteadyClock::now());
      co_await sleep_for(std::clamp(left, Milliseconds(1), kSlice));
    }
  }

  Node* node_;
  Connected* peer_;
  PrecopyLimits limits_;
  std::vector<RoundMeasurement> rounds_;
  MemorySource::Round how_;
  std::optional<double> rest_s_;  // to send what is dirty
};

void note_untracked(const Connected& peer) {
  MigrationReport& report = *peer.move.report;
  report.memory.untracked_reason = peer.memory->untracked_reason();
  if (report.memory.untracked_reason.empty()) return;
  report.warnings.push_back(untracked_warning(report.memory.untracked_reason));
  log::warn("memory could not be sent while the container ran",
            {{"container", report.container}, {"id", report.id}, {"reason", report.memory.untracked_reason}});
}

// What has changed of the files. Shared memory whose writes are tracked goes once more as long as there is much less of
// it each time: what is written while it is sent is left for the freeze.
awaitable<Status> send_changed_files(Connected& peer, Milliseconds idle) {
  constexpr unsigned kPassesMax = 4;
  constexpr std::uint64_t kLittle = 2 << 20;  // bytes; 5 ms
  LayerReport& report = peer.move.report->layer;
  std::uint64_t last = std::numeric_limits<std::uint64_t>::max();
  for (unsigned pass = 0; pass < kPassesMax; ++pass) {
    const std::uint64_t before = report.bytes_running;
    CO_CHECK_OK(co_await peer.layers->send_running(peer.link, report, idle));
    const std::uint64_t sent = report.bytes_running - before;
    if (!peer.layers->tracks_writes() || sent < kLittle || sent > last / 2) break;
    last = sent;
  }
  co_return Status{};
}

// Files and what CRIU will dump, beside them memory, then what has changed of the former: little is left for the freeze.
awaitable<Status> send_while_running(Node& node, Connected& peer) {
  MigrationReport& report = *peer.move.report;
  const Milliseconds idle = node.config().timeouts.idle;
  const bool in_rounds = report.mode == MigrationMode::kPreCopy || report.mode == MigrationMode::kHybrid;
  const bool images_ahead = in_rounds || report.mode == MigrationMode::kPostCopy;
  const auto send_images_ahead = [&]() -> awaitable<Status> {
    if (!images_ahead) co_return Status{};
    co_return co_await peer.images->send_ahead(peer.link, *peer.move.container, peer.layers->shared_memory_mapped(), report,
                                               idle);
  };
  report.enter("layer");
  report.layer = LayerReport();
  report.images = ImageReport();
  const Tracking tracking = node.config().engine.tracking;
  if (tracking == Tracking::kAuto || tracking == Tracking::kUserfaultfd) peer.layers->track_shared_memory();
  const auto send_files = [&]() -> awaitable<Status> {
    CO_CHECK_OK(co_await peer.layers->send_running(peer.link, report.layer, idle));
    co_return co_await send_images_ahead();
  };
  std::optional<Rounds> rounds;
  if (in_rounds) {
    rounds.emplace(node, peer);
    CO_CHECK_OK(co_await rounds->run(send_files()));
  } else {
    CO_CHECK_OK(co_await send_files());
  }
  report.enter("layer");
  const auto start = SteadyClock::now();
  CO_CHECK_OK(co_await send_images_ahead());
  CO_CHECK_OK(co_await send_changed_files(peer, idle));
  if (rounds && elapsed_ms(start) > kLongMs) {
    CO_CHECK_OK(co_await rounds->once_more("shared memory and files had been sent"));
  }
  if (rounds) note_untracked(peer);
  co_return Status{};
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
