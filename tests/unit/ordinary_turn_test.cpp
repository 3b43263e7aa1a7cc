// A thread of high priority that takes turns leaves an ordinary one its part of their processor.
#include "base/ordinary_turn.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <optional>

namespace lifeboat {
namespace {

using Clock = std::chrono::steady_clock;

double cpu_s() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

void compute(std::chrono::microseconds time) {
  const auto end = Clock::now() + time;
  while (Clock::now() < end) {
  }
}

void stay_on_one_processor() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(::sched_getcpu(), &set);
  ASSERT_EQ(::sched_setaffinity(0, sizeof set, &set), 0);
}

// The part of their processor that an ordinary thread gets beside one of high priority, which works in pieces of
// 100 us for a second of processor time.
double share_of_ordinary(bool in_turns) {
  double ordinary_s = 0;
  double high_s = 0;
  std::atomic<bool> over = false;
  std::thread([&] {
    stay_on_one_processor();  // those that it starts, too
    std::thread ordinary([&] {
      while (!over) compute(std::chrono::microseconds(100));
      ordinary_s = cpu_s();
    });
    raise_priority();
    std::optional<OrdinaryTurn> turn;
    if (in_turns) turn.emplace();
    auto until = Clock::now();
    for (const double end = cpu_s() + 1; cpu_s() < end;) {
      if (turn && Clock::now() >= until) until = turn->wait();
      compute(std::chrono::microseconds(100));
    }
    high_s = cpu_s();
    over = true;
    ordinary.join();
  }).join();
  return ordinary_s / (ordinary_s + high_s);
}

bool may_raise_priority() {
  bool raised = false;
  std::thread([&] {
    raise_priority();
    raised = ::getpriority(PRIO_PROCESS, 0) < 0;
  }).join();
  return raised;
}

TEST(OrdinaryTurn, LeavesAnOrdinaryThreadItsPart) {
  if (!may_raise_priority()) GTEST_SKIP() << "may not raise its priority";
  EXPECT_LT(share_of_ordinary(false), 0.2);
  EXPECT_GT(share_of_ordinary(true), 0.35);
}

TEST(OrdinaryTurn, IsGivenAtOnceWhereNobodyElseWants) {
  OrdinaryTurn turn;
  for (int i = 0; i < 1000; ++i) turn.wait();
}

}  // namespace
}  // namespace lifeboat
