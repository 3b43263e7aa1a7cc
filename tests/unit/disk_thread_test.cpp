// Work for a disk: in order, and nobody waits for one that hangs.
#include "base/disk_thread.hpp"

#include <gtest/gtest.h>

#include <future>
#include <vector>

namespace lifeboat {
namespace {

using namespace std::chrono_literals;

// How long settled(limit) took.
SteadyClock::duration settling(DiskThread& disk, Milliseconds limit) {
  asio::io_context context{1};
  const auto begun = SteadyClock::now();
  asio::co_spawn(context, disk.settled(limit), asio::detached);
  context.run();
  return SteadyClock::now() - begun;
}

TEST(DiskThread, WorksInOrderAndSaysWhenAllIsDone) {
  std::vector<int> done;
  DiskThread disk;
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(disk.post([&done, i] { done.push_back(i); }));
  EXPECT_LT(settling(disk, 60s), 30s);
  ASSERT_EQ(done.size(), 1000U);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(done[static_cast<std::size_t>(i)], i);
}

TEST(DiskThread, ADiskThatHangsHoldsUpNobody) {
  std::promise<void> disk_answers;
  std::size_t done = 0;
  {
    DiskThread disk;
    EXPECT_TRUE(disk.post([&] { disk_answers.get_future().wait(); }));
    std::size_t taken = 1;
    while (disk.post([&done] { ++done; })) ++taken;
    EXPECT_EQ(taken, DiskThread::kWaitingMax);
    const auto waited = settling(disk, 50ms);
    EXPECT_GE(waited, 50ms);
    disk_answers.set_value();
  }
  EXPECT_EQ(done, DiskThread::kWaitingMax - 1) << "what was taken is done before the end";
}

}  // namespace
}  // namespace lifeboat
