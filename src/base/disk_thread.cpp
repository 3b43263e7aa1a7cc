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

// By looking now and then: the thread must not know of an event loop that may be gone before a disk answers.
awaitable<void> DiskThread::settled(Milliseconds limit) {
  constexpr Milliseconds kLook{5};
  const auto done = std::make_shared<std::atomic<bool>>(false);
  asio::post(thread_, [done] { *done = true; });
  const auto end = SteadyClock::now() + limit;
  while (!*done && SteadyClock::now() < end) co_await sleep_for(kLook);
}

}  // namespace lifeboat
