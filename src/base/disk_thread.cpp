#include "base/disk_thread.hpp"

#include <memory>
#include <utility>

namespace lifeboat {

bool DiskThread::post(std::function<void()> work) {
  if (waiting_.load() >= kWaitingMax) return false;
  ++waiting_;
  asio::post(thread_, [this, work = std::move(work)] {
    work();
    --waiting_;
  });
  return true;
}

awaitable<void> DiskThread::settled(Milliseconds limit) {
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  const auto timer = std::make_shared<asio::steady_timer>(executor, limit);
  // The last to let go of the timer is its own event loop.
  asio::post(thread_, [executor, held = timer]() mutable {
    asio::post(executor, [held = std::move(held)] { held->cancel(); });
  });
  co_await timer->async_wait(use_tuple);
}

}  // namespace lifeboat
