#include "migration/turn.hpp"

namespace lifeboat {
namespace {

double now_s() {
  return std::chrono::duration<double>(SteadyClock::now().time_since_epoch()).count();
}

std::uint64_t bytes_ahead(const Node& node, const MigrationReport& report) {
  std::uint64_t bytes = 0;
  for (const std::string& id : node.queue().ahead(report.id)) {
    const auto at = node.migrations().find(id);
    if (at != node.migrations().end()) bytes += progress_of(*at->second).remaining_bytes;
  }
  return bytes;
}

}  // namespace

Turn::Turn(Node& node, const Move& move)
    : node_(node), container_(move.container), report_(move.report) {
  node_.queue().add(report_->id, report_->fabric);
}

Turn::~Turn() {
  node_.queue().remove(report_->id);
  report_->queue_position = 0;
  report_->waiting_for.clear();
}

awaitable<Status> Turn::wait() {
  constexpr Milliseconds kLook{10};
  if (leaving_) co_return Status{};
  const auto start = SteadyClock::now();
  if (report_->waiting_for.empty()) report_->waiting_for = "others that leave " + node_.name();
  while (!node_.queue().start(report_->id, now_s())) {
    report_->enter("queued");
    report_->queue_position = node_.queue().position(report_->id);
    co_await sleep_for(kLook);
    CO_CHECK_OK(report_->cancellation.check());
    if (!container_->init().running()) {
      co_return fail(Errc::kNotFound, "the container ended while it waited");
    }
  }
  leaving_ = true;
  report_->times.queued += elapsed_ms(start);
  report_->queue_position = 0;
  report_->waiting_for.clear();
  co_return Status{};
}

Status Turn::put_off(const Error& busy) {
  constexpr double kAskAgainS = 0.25;
  const auto now = SteadyClock::now();
  const Milliseconds limit = node_.config().timeouts.queue;
  if (put_off_first_ == SteadyClock::time_point()) put_off_first_ = now;
  if (now - put_off_first_ > limit) {
    return fail(Errc::kTimeout, "no place at the target within " +
                                    std::to_string(limit.count() / 1000) + " s (timeouts.queue): " +
                                    busy.message);
  }
  node_.queue().put_off(report_->id, now_s() + kAskAgainS);
  leaving_ = false;
  report_->waiting_for = busy.message;
  return {};
}

awaitable<void> follow_progress(Node& node, std::shared_ptr<MigrationReport> report) {
  constexpr Milliseconds kPause{100};
  while (report->outcome == Outcome::kRunning) {
    report->rate.add(now_s(), report->progress->bytes_sent.total());
    report->ahead_bytes = report->queue_position > 0 ? bytes_ahead(node, *report) : 0;
    co_await sleep_for(kPause);
  }
}

}  // namespace lifeboat
