// asio.hpp - the one place that includes Boost.Asio and Beast, and the few aliases we use.
//
// One thread runs everything (`io_context{1}`); a coroutine per connection or migration. Expected
// endings come as error codes (`as_tuple`), never as exceptions.
//
// g++ 12 destroys some temporaries inside a `co_await` expression twice (a braces-built aggregate, a capturing lambda,
// a conditional): this tree is built with clang.
#pragma once

// What is no template is compiled once, in boost.cpp and stream.cpp.
#define BOOST_ASIO_SEPARATE_COMPILATION
#define BOOST_BEAST_SEPARATE_COMPILATION

#include <boost/asio.hpp>
#include <boost/asio/experimental/as_tuple.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
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

// What nearly every coroutine does, compiled once: Asio's templates are most of the time of a build.

awaitable<void> sleep_for(Milliseconds duration);
// Until it expires or is cancelled.
awaitable<void> expiry(asio::steady_timer& timer);
// Until it can be read, or is cancelled: an error.
awaitable<boost::system::error_code> readable(asio::posix::stream_descriptor& descriptor);

// `work` goes on by itself in `executor`, until it or the event loop ends. What it throws is logged, with `what`.
void run_detached(const asio::any_io_executor& executor, std::string what, awaitable<void> work);

// Calls `on_expiry` (in the event loop) once `limit` has passed, unless destroyed before.
class Deadline {
 public:
  Deadline(asio::any_io_executor executor, Milliseconds limit, std::function<void()> on_expiry);
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline();
  [[nodiscard]] bool expired() const;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the handler, which may already be queued when the Deadline goes
};

// Milliseconds with fractions since `start`; what reports print.
inline double elapsed_ms(SteadyClock::time_point start,
                         SteadyClock::time_point end = SteadyClock::now()) {
  return std::chrono::duration<double, std::milli>(end - start).count();
}

}  // namespace lifeboat
