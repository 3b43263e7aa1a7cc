// asio.hpp - the one place that includes Boost.Asio and Beast, and the few aliases we use.
//
// One thread runs everything (`io_context{1}`); a coroutine per connection or migration. Expected
// endings come as error codes (`as_tuple`), never as exceptions.
//
// g++ 12 destroys some temporaries inside a `co_await` expression twice: never write a
// braces-built aggregate, a capturing lambda or a conditional (`c ? co_await f() : x`) in such an
// expression. Name it first, then move it.
#pragma once

#include <boost/asio.hpp>
#include <boost/asio/experimental/as_tuple.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <utility>

namespace lifeboat {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

using asio::awaitable;
using Milliseconds = std::chrono::milliseconds;
#ifdef LIFEBOAT_SIMULATED_TIME
}  // namespace lifeboat
#include "sim/clock.hpp"  // tests/sim: the same code, in simulated time
namespace lifeboat {
#else
using SteadyClock = std::chrono::steady_clock;
#endif

// Completion token: `auto [error, n] = co_await op(..., use_tuple);`
inline constexpr auto use_tuple = asio::as_tuple(asio::use_awaitable);

#ifdef LIFEBOAT_SIMULATED_TIME
awaitable<void> sleep_for(Milliseconds duration);
#else
inline awaitable<void> sleep_for(Milliseconds duration) {
  asio::steady_timer timer(co_await asio::this_coro::executor, duration);
  co_await timer.async_wait(use_tuple);
}
#endif

// Calls `on_expiry` (in the event loop) once `limit` has passed, unless destroyed before.
class Deadline {
 public:
  Deadline(asio::any_io_executor executor, Milliseconds limit, std::function<void()> on_expiry)
      : state_(std::make_shared<State>(std::move(executor), limit, std::move(on_expiry))) {
    state_->timer.async_wait([state = state_](boost::system::error_code error) {
      if (error || !state->armed) return;
      state->expired = true;
      state->on_expiry();
    });
  }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline() {
    state_->armed = false;
    state_->timer.cancel();
  }
  [[nodiscard]] bool expired() const { return state_->expired; }

 private:
  // Shared with the handler, which may already be queued when the Deadline goes.
  struct State {
    State(asio::any_io_executor executor, Milliseconds limit, std::function<void()> call)
        : timer(std::move(executor), limit), on_expiry(std::move(call)) {}
    asio::steady_timer timer;
    std::function<void()> on_expiry;
    bool armed = true;
    bool expired = false;
  };
  std::shared_ptr<State> state_;
};

// Milliseconds with fractions since `start`; what reports print.
inline double elapsed_ms(SteadyClock::time_point start,
                         SteadyClock::time_point end = SteadyClock::now()) {
  return std::chrono::duration<double, std::milli>(end - start).count();
}

}  // namespace lifeboat
