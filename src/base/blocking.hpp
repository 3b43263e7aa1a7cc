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

// One at a time, in no particular order; for coroutines of one event loop.
class AsyncMutex {
 public:
  // Gives the mutex back when it goes.
  class Lock {
   public:
    explicit Lock(AsyncMutex* mutex) : mutex_(mutex) {}
    Lock(Lock&& other) noexcept : mutex_(std::exchange(other.mutex_, nullptr)) {}
    Lock& operator=(Lock&&) = delete;
    ~Lock() {
      if (mutex_ != nullptr) mutex_->unlock();
    }

   private:
    AsyncMutex* mutex_;
  };

  explicit AsyncMutex(asio::any_io_executor executor) : timer_(std::move(executor)) {
    timer_.expires_at(asio::steady_timer::time_point::max());
  }
  awaitable<Lock> lock() {
    while (locked_) co_await expiry(timer_);
    locked_ = true;
    co_return Lock(this);
  }

 private:
  void unlock() {
    locked_ = false;
    timer_.cancel();
  }

  asio::steady_timer timer_;
  bool locked_ = false;
};

}  // namespace lifeboat
