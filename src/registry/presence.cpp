#include "registry/presence.hpp"

#include "base/log.hpp"
#include "events.hpp"
#include "report.hpp"

namespace lifeboat {

awaitable<Status> Presence::grant() {
  CO_TRY(const LeaseId lease, co_await owners_.registry().grant(term_));
  // What an earlier daemon of this node has left there goes with its own lease.
  CO_TRY(const std::optional<Entry> now, co_await owners_.registry().get(presence_key(node_)));
  SwapRequest request;
  request.key = presence_key(node_);
  request.version = now ? now->version : kAbsent;
  request.value = json::serialize(json::object{{"node", node_}, {"since", timestamp_now()}});
  request.lease = lease;
  CO_TRY(const Swap swapped, co_await owners_.registry().swap(std::move(request), term_));
  if (!swapped.written) co_return fail(Errc::kConflict, "another daemon calls itself node " + node_);
  lease_ = lease;
  co_return Status{};
}

awaitable<void> Presence::keep() {
  const Milliseconds pause = term_ / 4;
  std::optional<SteadyClock::time_point> failing_since;
  bool told = false;
  bool answered = false;  // and on_answer_ is done
  for (;;) {
    Status kept;
    if (lease_ != kNoLease) kept = co_await owners_.registry().keep_alive(lease_);
    if (!kept && kept.error().code == Errc::kNotFound) {
      log::warn("the registry has counted this node as gone", {{"reason", kept.error().message}});
      lease_ = kNoLease;
    }
    if (lease_ == kNoLease) {
      kept = co_await grant();
      answered = false;
    }
    const auto now = SteadyClock::now();
    if (!kept) {
      if (!failing_since) failing_since = now;
      answered = false;
      // A cluster whose daemons all start at once need not be told so.
      if (!told && now - *failing_since >= term_) {
        told = true;
        log::error(events::kRegistryUnreachable,
                   "the registry does not answer: containers run on, but no migration can begin",
                   {{"reason", kept.error().message}});
      }
    } else {
      if (told) log::info(events::kRegistryReachable, "the registry answers again");
      if (!answered) answered = co_await on_answer_();
      failing_since.reset();
      told = false;
    }
    co_await sleep_for(pause);
  }
}

namespace {

awaitable<void> watch(Owners& owners, std::string node, std::shared_ptr<std::function<void()>> on_gone) {
  constexpr Milliseconds kPause{1000};
  while (*on_gone) {
    co_await sleep_for(kPause);
    auto alive = co_await owners.node_alive(node);
    if (!*on_gone || !alive || *alive) continue;
    (*on_gone)();
    co_return;
  }
}

}  // namespace

PresenceWatch::PresenceWatch(const asio::any_io_executor& executor, Owners& owners, std::string node,
                             std::function<void()> on_gone)
    : on_gone_(std::make_shared<std::function<void()>>(std::move(on_gone))) {
  run_detached(executor, "watching another node's lease", watch(owners, std::move(node), on_gone_));
}

}  // namespace lifeboat
