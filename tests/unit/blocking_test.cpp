// A mutex of coroutines.
#include "base/blocking.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

awaitable<void> enter(AsyncMutex& mutex, int& inside, int& entered) {
  const AsyncMutex::Lock lock = co_await mutex.lock();
  ++entered;
  EXPECT_EQ(++inside, 1);
  co_await sleep_for(Milliseconds(1));
  EXPECT_EQ(inside--, 1);
}

TEST(AsyncMutex, OneAtATime) {
  asio::io_context context(1);
  AsyncMutex mutex;
  int inside = 0;
  int entered = 0;
  for (int i = 0; i < 20; ++i) asio::co_spawn(context, enter(mutex, inside, entered), asio::detached);
  context.run();
  EXPECT_EQ(entered, 20);
}

// As when the daemon ends: coroutines go with the event loop while the mutex is held and waited for. (What that does
// wrong AddressSanitizer sees.)
TEST(AsyncMutex, OutlivesTheEventLoop) {
  AsyncMutex mutex;
  int inside = 0;
  int entered = 0;
  for (int loop = 1; loop <= 2; ++loop) {
    asio::io_context context(1);
    for (int i = 0; i < 3; ++i) asio::co_spawn(context, enter(mutex, inside, entered), asio::detached);
    context.poll();
    EXPECT_EQ(entered, loop) << "it is free again for the next loop";
    inside = 0;
  }
}

}  // namespace
}  // namespace lifeboat
