// handshake_turns.hpp - so many handshakes a program begins at once. Thousands of them, as when a
// head starts or a cut is over, would all pass their deadlines, be begun again, and never end; in
// turn, each takes a millisecond or two of a processor.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "base/asio.hpp"

namespace lifeboat {

// One for each event loop: asio::use_service<HandshakeTurns>(context).
class HandshakeTurns : public asio::execution_context::service {
 public:
  using key_type = HandshakeTurns;
  static inline asio::execution_context::id id;
  static constexpr unsigned kAtOnce = 64;

  explicit HandshakeTurns(asio::execution_context& context) : service(context) {}

  // Given on to who has waited longest when it goes.
  class Turn {
   public:
    explicit Turn(HandshakeTurns* turns) : turns_(turns) {}
    Turn(Turn&& other) noexcept : turns_(std::exchange(other.turns_, nullptr)) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (turns_ != nullptr) turns_->pass_on();
    }

   private:
    HandshakeTurns* turns_;
  };

  // Nothing: none came within `limit`.
  awaitable<std::optional<Turn>> take(Milliseconds limit) {
    if (free_ > 0) {
      --free_;
      co_return std::optional<Turn>(std::in_place, this);
    }
    const asio::any_io_executor executor = co_await asio::this_coro::executor;
    const auto waiting = std::make_shared<Waiting>(executor, limit);
    queue_.push_back(waiting);
    co_await expiry(waiting->timer);
    if (!waiting->given) co_return std::nullopt;
    co_return std::optional<Turn>(std::in_place, this);
  }

 private:
  struct Waiting {
    Waiting(const asio::any_io_executor& executor, Milliseconds limit) : timer(executor, limit) {}
    asio::steady_timer timer;
    bool given = false;
  };

  void shutdown() override { queue_.clear(); }
  void pass_on() {
    while (!queue_.empty()) {
      const auto next = queue_.front().lock();
      queue_.pop_front();
      if (!next || next->timer.cancel() == 0) continue;  // it has given up
      next->given = true;
      return;
    }
    ++free_;
  }

  unsigned free_ = kAtOnce;
  std::deque<std::weak_ptr<Waiting>> queue_;
};

}  // namespace lifeboat
