#include "base/asio.hpp"

#include "base/blocking.hpp"
#include "base/log.hpp"

namespace lifeboat {

#ifndef LIFEBOAT_SIMULATED_TIME
awaitable<void> sleep_for(Milliseconds duration) {
  asio::steady_timer timer(co_await asio::this_coro::executor, duration);
  co_await timer.async_wait(use_tuple);
}
#endif

awaitable<void> expiry(asio::steady_timer& timer) { co_await timer.async_wait(use_tuple); }

awaitable<boost::system::error_code> readable(asio::posix::stream_descriptor& descriptor) {
  auto [error] = co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read, use_tuple);
  co_return error;
}

void run_detached(const asio::any_io_executor& executor, std::string what, awaitable<void> work) {
  asio::co_spawn(executor, std::move(work), [what = std::move(what)](const std::exception_ptr& thrown) {
    if (thrown) log::error("failed unexpectedly", {{"reason", error_of(thrown, what).message}});
  });
}

struct Deadline::State {
  State(asio::any_io_executor executor, Milliseconds limit, std::function<void()> call)
      : timer(std::move(executor), limit), on_expiry(std::move(call)) {}
  asio::steady_timer timer;
  std::function<void()> on_expiry;
  bool armed = true;
  bool expired = false;
};

Deadline::Deadline(asio::any_io_executor executor, Milliseconds limit, std::function<void()> on_expiry)
    : state_(std::make_shared<State>(std::move(executor), limit, std::move(on_expiry))) {
  state_->timer.async_wait([state = state_](boost::system::error_code error) {
    if (error || !state->armed) return;
    state->expired = true;
    state->on_expiry();
  });
}

Deadline::~Deadline() {
  state_->armed = false;
  state_->timer.cancel();
}

bool Deadline::expired() const { return state_->expired; }

}  // namespace lifeboat
