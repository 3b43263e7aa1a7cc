#include "migration/hold_link.hpp"

#include "base/log.hpp"
#include "migration/phase.hpp"

namespace lifeboat {

using protocol::Kind;

namespace {

// All there can be, were nothing else to do.
constexpr std::chrono::microseconds kAllLimit{50'000};

// A container may have ended meanwhile, and its network with it.
std::size_t give(Container& container, const HeldFrames& held, std::size_t next) {
  if (container.state() != ContainerState::kRunning) return next;
  return container.net().deliver(held, next, kAllLimit);
}

}  // namespace

void prepare_hold(bool wanted, Container& container, MigrationReport& report) {
  if (!wanted) return;
  Status prepared = container.net().prepare_hold();
  if (prepared) return;
  const std::string& reason = prepared.error().message;
  report.warnings.push_back("frames that arrive during the freeze are lost: " + reason);
  log::warn("frames that arrive during the freeze are lost",
            {{"container", container.spec().id}, {"reason", reason}});
}

void FrozenContainer::collect_held() {
  container_->net().collect_held(held_);
  if (!report_) return;
  report_->hold.frames = held_.frames().size();
  report_->hold.bytes = held_.bytes();
  report_->hold.dropped = held_.dropped() + container_->net().held_dropped();
}

void FrozenContainer::deliver_held() {
  collect_held();
  const std::size_t delivered = container_->net().deliver(held_, 0, kAllLimit);
  if (report_) report_->hold.delivered = delivered;
}

awaitable<Status> FrozenContainer::send_held(Link& link, Milliseconds limit) {
  collect_held();
  const std::vector<std::vector<unsigned char>> payloads = held_.encode(sent_);
  sent_ = held_.frames().size();
  for (const std::vector<unsigned char>& payload : payloads) {
    CO_CHECK_OK(co_await link.send_bytes(Kind::kHeldFrames, payload.data(), payload.size(), limit));
  }
  co_return Status{};
}

awaitable<Status> FrozenContainer::end_held(Link& link, Milliseconds limit) {
  CO_CHECK_OK(co_await send_held(link, limit));
  json::object nothing;
  CO_CHECK_OK(co_await link.send(Kind::kHeldEnd, std::move(nothing), limit));
  CO_TRY(const json::object body, co_await link.expect(Kind::kResponse, limit));
  CO_TRY(report_->hold.delivered, get_u64(body, "delivered"));
  co_return Status{};
}

awaitable<Result<json::object>> expect_after_held(Link& link, Kind kind, HeldFrames& held,
                                                  Milliseconds limit) {
  for (;;) {
    CO_TRY(const Frame frame, co_await link.receive(limit));
    if (frame.kind != Kind::kHeldFrames) co_return link.read(frame, kind);
    CO_CHECK_OK(held.decode(frame.payload));
  }
}

awaitable<Status> deliver_rest(Link& link, std::shared_ptr<Container> container, HeldFrames held,
                               std::size_t next, Milliseconds limit) {
  next = give(*container, held, next);
  for (;;) {
    CO_TRY(const Frame frame, co_await link.receive(limit));
    if (frame.kind == Kind::kHeldFrames) {
      CO_CHECK_OK(held.decode(frame.payload));
      next = give(*container, held, next);
      continue;
    }
    CO_CHECK_OK(link.read(frame, Kind::kHeldEnd));
    json::object body{{"delivered", next}};
    co_return co_await link.send(Kind::kResponse, std::move(body), limit);
  }
}

}  // namespace lifeboat
