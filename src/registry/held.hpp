// held.hpp - an object with sockets and timers that lives exactly as long as the event loop that serves
// them: they must not outlive it, and what uses them often does.
#pragma once

#include <memory>

#include "base/asio.hpp"

namespace lifeboat {

template <class T>
class Held {
 public:
  Held(const asio::any_io_executor& executor, std::shared_ptr<T> object) : object_(object) {
    run_detached(executor, "holding an object", hold(std::move(object)));
  }
  // Null once the event loop has gone.
  [[nodiscard]] std::shared_ptr<T> lock() const { return object_.lock(); }

 private:
  static awaitable<void> hold(std::shared_ptr<T> object) {
    asio::steady_timer never(co_await asio::this_coro::executor, SteadyClock::time_point::max());
    co_await expiry(never);
    object.reset();
  }
  std::weak_ptr<T> object_;
};

}  // namespace lifeboat
