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
    asio::co_spawn(executor, hold(std::move(object)), asio::detached);
  }
  // Null once the event loop has gone.
  [[nodiscard]] std::shared_ptr<T> lock() const { return object_.lock(); }

 private:
  static awaitable<void> hold(std::shared_ptr<T> object) {
    asio::steady_timer never(co_await asio::this_coro::executor, SteadyClock::time_point::max());
    co_await never.async_wait(use_tuple);
    object.reset();
  }
  std::weak_ptr<T> object_;
};

}  // namespace lifeboat
