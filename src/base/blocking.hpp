// blocking.hpp - work that blocks (reading memory, sending pages), kept off the event loop.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/asio.hpp"
#include "base/result.hpp"

namespace lifeboat {

// Runs `work` on a thread of `pool`; the awaiting coroutine goes on in its own executor afterwards. Cancelling the
// coroutine does not reach it: Asio would do that from this thread, unsynchronised with the other.
awaitable<void> run_on(asio::thread_pool& pool, std::function<void()> work);

// The same with a result. What `work` refers to must live until it has ended: await it where those objects are.
template <class R>
awaitable<R> run_blocking(asio::thread_pool& pool, std::function<R()> work) {
  const auto result = std::make_shared<std::optional<R>>();
  std::function<void()> fill = [result, work = std::move(work)] { result->emplace(work()); };
  co_await run_on(pool, std::move(fill));
  co_return std::move(**result);
}

// An exception (no thread, memory or descriptor to be had, mostly) as an error. `what`: in front of the reason.
[[nodiscard]] Error error_of(const std::exception_ptr& thrown, const std::string& what);

// What `work` throws, as its error. Each operand of `a && b` needs it: an exception of one cancels the others, in
// the middle of whatever they do, and what they have done is lost with them.
template <class T>
awaitable<Result<T>> errors_of(awaitable<Result<T>> work, const char* what) {
  std::exception_ptr thrown;
  try {
    co_return co_await std::move(work);
  } catch (...) {
    thrown = std::current_exception();
  }
  co_return tl::unexpected<Error>(error_of(thrown, what));
}

// One at a time, in no particular order; for coroutines of one event loop. It may outlive that: what the others wait
// for belongs to the coroutine that has it.
class AsyncMutex {
 public:
  // Gives the mutex back when it goes.
  class Lock {
   public:
    Lock(AsyncMutex* mutex, std::shared_ptr<asio::steady_timer> held) : mutex_(mutex), held_(std::move(held)) {}
    Lock(Lock&& other) noexcept = default;
    Lock& operator=(Lock&&) = delete;
    ~Lock() {
      if (!held_) return;
      mutex_->held_.reset();
      held_->cancel();
    }

   private:
    AsyncMutex* mutex_;
    std::shared_ptr<asio::steady_timer> held_;
  };

  AsyncMutex() = default;
  AsyncMutex(const AsyncMutex&) = delete;
  AsyncMutex& operator=(const AsyncMutex&) = delete;
  awaitable<Lock> lock() {
    while (const auto others = held_.lock()) co_await expiry(*others);
    auto held = std::make_shared<asio::steady_timer>(co_await asio::this_coro::executor,
                                                     asio::steady_timer::time_point::max());
    held_ = held;
    co_return Lock(this, std::move(held));
  }

 private:
  std::weak_ptr<asio::steady_timer> held_;
};

}  // namespace lifeboat
