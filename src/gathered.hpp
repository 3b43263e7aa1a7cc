// gathered.hpp - what is costly to gather and asked for by many, as by everyone who watches the page: one of them
// gathers it for all, and not again while it is new enough.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/asio.hpp"

namespace lifeboat {

template <class T>
class Gathered {
 public:
  // What `gather` gives counts as new for so long.
  Gathered(Milliseconds lasts, std::function<awaitable<T>()> gather) : lasts_(lasts), gather_(std::move(gather)) {}

  // Another `reason` than the last one's is a reason to gather again.
  awaitable<std::shared_ptr<const T>> get(std::string reason = "") {
    while (const auto others = busy_.lock()) co_await expiry(*others);
    if (!value_ || reason != reason_ || SteadyClock::now() - at_ >= lasts_) {
      const asio::any_io_executor executor = co_await asio::this_coro::executor;
      const Turn turn(executor, busy_);
      T fresh = co_await gather_();
      value_ = std::make_shared<const T>(std::move(fresh));
      reason_ = std::move(reason);
      at_ = SteadyClock::now();
    }
    co_return value_;
  }

 private:
  // Of the one that gathers: the others wait for its end. It belongs to that coroutine, as a timer must not outlive
  // the event loop.
  struct Turn {
    Turn(const asio::any_io_executor& executor, std::weak_ptr<asio::steady_timer>& busy)
        : timer(std::make_shared<asio::steady_timer>(executor, asio::steady_timer::time_point::max())), known(busy) {
      known = timer;
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() {
      known.reset();
      timer->cancel();
    }
    std::shared_ptr<asio::steady_timer> timer;
    std::weak_ptr<asio::steady_timer>& known;
  };

  Milliseconds lasts_;
  std::function<awaitable<T>()> gather_;
  std::weak_ptr<asio::steady_timer> busy_;
  std::shared_ptr<const T> value_;
  SteadyClock::time_point at_;
  std::string reason_;
};

}  // namespace lifeboat
