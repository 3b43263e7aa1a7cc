#include "sim/events.hpp"

namespace lifeboat {

SteadyClock::time_point SteadyClock::now() noexcept {
  return time_point(std::chrono::microseconds(sim::Events::current().now()));
}

awaitable<void> sleep_for(Milliseconds duration) {
  co_await sim::Events::current().sleep(duration.count() * sim::kMs);
}

}  // namespace lifeboat

namespace lifeboat::sim {

namespace {

thread_local Events* running = nullptr;

template <class Handler>
class HandlerWaker : public Waker {
 public:
  HandlerWaker(asio::io_context& io, Handler handler) : io_(io), handler_(std::move(handler)) {}
  void wake() override { asio::post(io_, std::move(handler_)); }

 private:
  asio::io_context& io_;
  Handler handler_;
};

}  // namespace

Events::Events(std::uint64_t seed) : random_(seed) { running = this; }

Events::~Events() {
  // What still sleeps goes with its frames, before the clock does.
  queue_ = {};
}

Events& Events::current() { return *running; }

void Events::at(Micros when, std::function<void()> what) {
  queue_.push(Event{std::max(when, now_), asked_++, std::move(what)});
}

void Events::spawn(awaitable<void> coroutine) {
  asio::co_spawn(io_, std::move(coroutine), [](const std::exception_ptr& failure) {
    if (failure) std::rethrow_exception(failure);
  });
}

awaitable<void> Events::wait(std::shared_ptr<Sleeper> who, Micros limit) {
  auto initiate = [this, who, limit](auto handler) {
    using Handler = decltype(handler);
    who->waker = std::make_unique<HandlerWaker<Handler>>(io_, std::move(handler));
    after(limit, [who, turn = ++who->turn] {
      if (who->turn == turn) signal(*who);
    });
  };
  co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(std::move(initiate), asio::use_awaitable);
}

void Events::signal(Sleeper& who) {
  const std::unique_ptr<Waker> waker = std::move(who.waker);
  if (waker) waker->wake();
}

awaitable<void> Events::sleep(Micros duration) {
  auto who = std::make_shared<Sleeper>();
  co_await wait(std::move(who), duration);
}

bool Events::step() {
  io_.restart();
  io_.poll();
  if (queue_.empty()) return false;
  Event next = std::move(const_cast<Event&>(queue_.top()));
  queue_.pop();
  now_ = next.when;
  ++count;
  next.what();
  io_.restart();
  io_.poll();
  return true;
}

Micros Events::between(Micros from, Micros to) {
  return from + static_cast<Micros>(random_() % static_cast<std::uint64_t>(to - from + 1));
}

bool Events::happens(double probability) {
  return static_cast<double>(random_() >> 11) * 0x1.0p-53 < probability;
}

std::size_t Events::below(std::size_t end) { return random_() % end; }

}  // namespace lifeboat::sim
