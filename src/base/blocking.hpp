// blocking.hpp - work that blocks (reading memory, sending pages), kept off the event loop.
#pragma once

#include <exception>
#include <functional>
#include <string>
#include <utility>

#include "base/asio.hpp"
#include "base/result.hpp"

namespace lifeboat {

// Runs `work` on a thread of `pool`; the awaiting coroutine goes on in its own executor with the
// result. What `work` refers to must live until then: await it where those objects are. Cancelling the
// coroutine does not reach it: Asio would do that from this thread, unsynchronised with the other.
template <class R>
awaitable<R> run_blocking(asio::thread_pool& pool, std::function<R()> work) {
  const auto call = [](std::function<R()> f) -> awaitable<R> { co_return f(); };
  awaitable<R> there = call(std::move(work));
  co_return co_await asio::co_spawn(pool.get_executor(), std::move(there),
                                    asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
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
    while (locked_) co_await timer_.async_wait(use_tuple);
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
