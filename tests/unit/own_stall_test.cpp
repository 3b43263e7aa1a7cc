#include "own_stall.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(OwnStall, ADaemonThatRunsSeesTheTimeAsItIs) {
  OwnStall stall;
  auto time = SteadyClock::now();
  const auto begin = time;
  stall.tick(time);
  for (int i = 0; i < 400; ++i) stall.tick(time += milliseconds(300));  // a little late each time
  EXPECT_EQ(stall.now_at(time) - stall.now_at(begin), time - begin);
}

TEST(OwnStall, AMinuteInWhichItStoodStillIsNoTime) {
  OwnStall stall;
  auto time = SteadyClock::now();
  stall.tick(time);
  const auto before = stall.now_at(time);
  time += seconds(60);
  // Whoever asks first, before the next tick or after it, sees the same.
  EXPECT_EQ(stall.now_at(time) - before, milliseconds(500));
  stall.tick(time);
  EXPECT_EQ(stall.now_at(time) - before, milliseconds(500));
  time += milliseconds(250);
  EXPECT_EQ(stall.now_at(time) - before, milliseconds(750));
}

TEST(OwnStall, ItNeverGoesBack) {
  OwnStall stall;
  auto time = SteadyClock::now();
  auto last = stall.now_at(time);
  for (int i = 0; i < 1000; ++i) {
    time += milliseconds((i * 7919) % 1500);
    EXPECT_GE(stall.now_at(time), last);
    last = stall.now_at(time);
    stall.tick(time);
    EXPECT_EQ(stall.now_at(time), last);
  }
}

}  // namespace
}  // namespace lifeboat
