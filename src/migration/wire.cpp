#include "migration/wire.hpp"

#include <algorithm>

namespace lifeboat {
namespace {

constexpr Milliseconds kLook{5};  // how often those that wait look whether it is their turn

}  // namespace

Wire::Stream::Stream(Stream&& other) noexcept
    : wire_(std::exchange(other.wire_, nullptr)), member_(std::exchange(other.member_, nullptr)) {}

Wire::Stream& Wire::Stream::operator=(Stream&& other) noexcept {
  std::swap(wire_, other.wire_);
  std::swap(member_, other.member_);
  return *this;
}

Wire::Stream::~Stream() {
  if (!member_) return;
  std::erase(wire_->members_, member_);
  wire_->share();
}

void Wire::Stream::set_sending(bool sending) {
  if (!member_) return;
  member_->use.sending = sending;
  wire_->share();
}

void Wire::Stream::set_frozen() {
  if (!member_) return;
  member_->frozen = true;
  wire_->share();
}

void Wire::Stream::set_thawed() {
  if (!member_) return;
  member_->frozen = member_->turn = member_->use.sending = false;
  wire_->share();
}

bool Wire::Stream::try_turn() {
  if (!member_ || member_->turn) return true;
  const auto taken = std::count_if(wire_->members_.begin(), wire_->members_.end(),
                                   [](const auto& member) { return member->turn; });
  if (static_cast<std::size_t>(taken) >= wire_->frozen_max_) return false;
  member_->turn = true;
  return true;
}

awaitable<bool> Wire::Stream::take_turn(Milliseconds limit) {
  if (try_turn()) co_return true;
  const auto deadline = SteadyClock::now() + limit;
  while (SteadyClock::now() < deadline) {
    co_await sleep_for(kLook);
    if (try_turn()) break;
  }
  co_return false;
}

awaitable<Status> Wire::Stream::wait_for_turn(const Cancellation& cancellation, Milliseconds limit) {
  const auto deadline = SteadyClock::now() + limit;
  while (!try_turn()) {
    CO_CHECK_OK(cancellation.check());
    if (SteadyClock::now() > deadline) {
      co_return fail(Errc::kTimeout, "others are frozen (limits.frozen_per_node), for longer than "
                                     "timeouts.queue allows");
    }
    co_await sleep_for(kLook);
  }
  co_return Status{};
}

Wire::Stream Wire::join(WireUse use, std::function<void(std::uint64_t)> set_limit) {
  Stream stream;
  stream.wire_ = this;
  stream.member_ = std::make_shared<Stream::Member>();
  stream.member_->limit = use.limit_bytes_per_s;
  stream.member_->use = std::move(use);
  stream.member_->set_limit = std::move(set_limit);
  members_.push_back(stream.member_);
  return stream;
}

void Wire::share() {
  std::vector<WireUse> uses;
  for (const auto& member : members_) {
    uses.push_back(member->use);
    uses.back().urgent = member->frozen || (member->turn && member->use.sending);
  }
  const std::vector<std::uint64_t> shares = wire_shares(uses);
  for (std::size_t i = 0; i < shares.size(); ++i) {
    Stream::Member& member = *members_[i];
    if (!member.set_limit || member.limit == shares[i]) continue;
    member.limit = shares[i];
    member.set_limit(shares[i]);
  }
}

}  // namespace lifeboat
