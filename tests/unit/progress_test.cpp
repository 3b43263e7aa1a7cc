// What is told of a migration while it goes on.
#include "progress.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

constexpr std::uint64_t kMB = 1'000'000;
constexpr double kFixedMs = 170;

ProgressState live(const std::string& phase) {
  ProgressState state;
  state.phase = phase;
  state.live = true;
  state.fixed_ms = kFixedMs;
  state.memory_bytes = 1000 * kMB;
  state.nominal_bytes_per_s = 100e6;
  return state;
}

TEST(RateMeter, OverTheLastSecond) {
  RateMeter meter;
  EXPECT_EQ(meter.bytes_per_s(), 0);
  meter.add(0, 0);
  EXPECT_EQ(meter.bytes_per_s(), 0);
  meter.add(0.5, 50);
  EXPECT_DOUBLE_EQ(meter.bytes_per_s(), 100);
  for (int i = 1; i <= 20; ++i) meter.add(0.5 + i * 0.1, 50);  // nothing for two seconds
  EXPECT_DOUBLE_EQ(meter.bytes_per_s(), 0);
  meter.add(2.6, 1050);
  EXPECT_NEAR(meter.bytes_per_s(), 1000 / 1.1, 100);
}

TEST(RateMeter, ANewAttemptThatBeginsAnewIsNoNegativeRate) {
  RateMeter meter;
  meter.add(0, 100);
  meter.add(1, 10);
  EXPECT_EQ(meter.bytes_per_s(), 0);
}

TEST(Progress, WaitingForItsTurn) {
  ProgressState state = live("queued");
  state.ahead_bytes = 2000 * kMB;
  const Progress progress = estimate(state);
  EXPECT_EQ(progress.remaining_bytes, 1000 * kMB);
  EXPECT_NEAR(progress.eta_s, 30 + kFixedMs / 1000, 1e-6);
  EXPECT_LT(progress.expected_downtime_ms, 0);  // nothing of its writes is known
}

TEST(Progress, FirstRound) {
  ProgressState state = live("pre-copy");
  state.round_bytes = 1000 * kMB;
  state.round_sent_bytes = 400 * kMB;
  state.rate_bytes_per_s = 60e6;
  const Progress progress = estimate(state);
  EXPECT_EQ(progress.remaining_bytes, 600 * kMB);
  EXPECT_EQ(progress.rate_bytes_per_s, 60e6);
  EXPECT_NEAR(progress.eta_s, 10 + kFixedMs / 1000, 1e-6);
  EXPECT_LT(progress.expected_downtime_ms, 0);
}

TEST(Progress, WhatIsWrittenMeanwhileIsSentToo) {
  ProgressState state = live("pre-copy");
  state.round_bytes = 100 * kMB;
  state.send_bytes_per_s = 100e6;
  state.dirty_bytes_per_s = 50e6;
  state.rest_s = 0.04;
  EXPECT_NEAR(estimate(state).eta_s, 2 + 0.21, 1e-6);
  EXPECT_NEAR(estimate(state).expected_downtime_ms, 210, 1e-6);
  // It writes faster than the wire takes it: still not for ever.
  state.dirty_bytes_per_s = 500e6;
  EXPECT_NEAR(estimate(state).eta_s, 10 + 0.21, 1e-6);
  // Frozen: nothing is written any more.
  state.phase = "dump";
  EXPECT_NEAR(estimate(state).eta_s, 1 + 0.21, 1e-6);
}

TEST(Progress, StopAndCopy) {
  ProgressState state = live("dump");
  state.live = false;
  state.stopped_ms = 11'400;
  state.sent_bytes = 700 * kMB;
  Progress progress = estimate(state);
  EXPECT_EQ(progress.remaining_bytes, 300 * kMB);
  EXPECT_EQ(progress.expected_downtime_ms, 11'400);
  EXPECT_NEAR(progress.eta_s, 3 + 0.65, 1e-6);
  state.phase = "restore";
  progress = estimate(state);
  EXPECT_EQ(progress.remaining_bytes, 0U);
  EXPECT_NEAR(progress.eta_s, 0.65, 1e-6);
  state.sent_bytes = 2000 * kMB;  // images are a little more than memory
  state.phase = "transfer";
  EXPECT_EQ(estimate(state).remaining_bytes, 0U);
}

TEST(Progress, Over) {
  ProgressState state = live("committed");
  state.over = true;
  EXPECT_EQ(estimate(state).remaining_bytes, 0U);
  EXPECT_EQ(estimate(state).eta_s, 0);
}

TEST(Progress, NothingKnownOfTheSpeed) {
  ProgressState state = live("pre-copy");
  state.nominal_bytes_per_s = 0;
  state.round_bytes = kMB;
  EXPECT_LT(estimate(state).eta_s, 0);
}

}  // namespace
}  // namespace lifeboat
