// disk_thread.hpp - what is written to a disk, on a thread of its own and in order. A disk that takes seconds
// (others keep it busy, or it is about to fail: then above all) holds up neither an event loop nor a container
// that is frozen.
#pragma once

#include <atomic>
#include <functional>

#include "base/asio.hpp"

namespace lifeboat {

class DiskThread {
 public:
  // So much may wait for the disk.
  static constexpr std::size_t kWaitingMax = 10'000;

  // Starts the thread; throws std::system_error when there is none to be had.
  DiskThread() = default;
  DiskThread(const DiskThread&) = delete;
  DiskThread& operator=(const DiskThread&) = delete;
  // Everything posted is done first, however long the disk takes.
  ~DiskThread() { join(); }

  // Returns at once. `work` must not throw. False: kWaitingMax wait already, and this is dropped.
  bool post(std::function<void()> work);
  // Returns once all that was posted before is done, or after `limit`.
  awaitable<void> settled(Milliseconds limit);
  // Returns once all is done, however long the disk takes; nothing may be posted any more.
  void join() { thread_.join(); }

 private:
  std::atomic<std::size_t> waiting_{0};
  asio::thread_pool thread_{1};
};

}  // namespace lifeboat
