// blocking.hpp - work that blocks (reading memory, sending pages), kept off the event loop.
#pragma once

#include <functional>
#include <system_error>
#include <utility>

#include "base/asio.hpp"
#include "base/result.hpp"

namespace lifeboat {

// Runs `work` on a thread of `pool`; the awaiting coroutine goes on in its own executor with the
// result. What `work` refers to must live until then: await it where those objects are.
template <class R>
awaitable<R> run_blocking(asio::thread_pool& pool, std::function<R()> work) {
  const auto call = [](std::function<R()> f) -> awaitable<R> { co_return f(); };
  awaitable<R> there = call(std::move(work));
  co_return co_await asio::co_spawn(pool.get_executor(), std::move(there), asio::use_awaitable);
}

// What `work` throws, as its error: no thread to be had, no memory. `what`: in front of the reason.
template <class T>
awaitable<Result<T>> errors_of(awaitable<Result<T>> work, std::string what) {
  try {
    co_return co_await std::move(work);
  } catch (const std::system_error& error) {
    co_return fail_task(what, error.code().value());
  } catch (const boost::system::system_error& error) {  // Asio's own threads
    co_return fail_task(what, error.code().value());
  } catch (const std::bad_alloc&) {
    co_return fail_errno(what, ENOMEM);
  }
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
    timer_.expires_at(SteadyClock::time_point::max());
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
