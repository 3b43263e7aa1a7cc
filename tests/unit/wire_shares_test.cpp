// How the wires are shared between the migrations that leave a node.
#include "migration/wire_shares.hpp"

#include <gtest/gtest.h>

#include "migration/wire.hpp"

namespace lifeboat {
namespace {

using Shares = std::vector<std::uint64_t>;

WireUse use(std::uint64_t limit = 0, bool sending = true, bool urgent = false,
            const std::string& fabric = "10g") {
  WireUse out;
  out.fabric = fabric;
  out.fabric_bytes_per_s = fabric == "10g" ? 1000 : 100;
  out.limit_bytes_per_s = limit;
  out.sending = sending;
  out.urgent = urgent;
  return out;
}

TEST(WireShares, AloneItIsOnlyLimitedByTheOperator) {
  EXPECT_EQ(wire_shares({}), Shares{});
  EXPECT_EQ(wire_shares({use()}), (Shares{0}));
  EXPECT_EQ(wire_shares({use(70)}), (Shares{70}));
  EXPECT_EQ(wire_shares({use(5000)}), (Shares{5000}));
}

TEST(WireShares, EqualPartsForThoseThatSend) {
  EXPECT_EQ(wire_shares({use(), use(), use(), use()}), (Shares{250, 250, 250, 250}));
  // One that pauses needs nothing; it has no limit when it begins again, but then all get new ones.
  EXPECT_EQ(wire_shares({use(), use(0, false), use()}), (Shares{500, 0, 500}));
}

TEST(WireShares, WhatOneMayNotUseTheOthersGet) {
  EXPECT_EQ(wire_shares({use(), use(100), use()}), (Shares{450, 100, 450}));
  EXPECT_EQ(wire_shares({use(900), use(600)}), (Shares{500, 500}));
}

TEST(WireShares, FabricsDoNotConcernEachOther) {
  EXPECT_EQ(wire_shares({use(), use(0, true, false, "1g"), use(0, true, true, "1g")}),
            (Shares{0, 5, 0}));
}

TEST(WireShares, AFrozenOneGoesFirst) {
  EXPECT_EQ(wire_shares({use(), use(0, false, true), use()}), (Shares{25, 0, 25}));
  EXPECT_EQ(wire_shares({use(0, true, true), use(0, true, true), use()}), (Shares{500, 500, 50}));
  // The operator's limit of the frozen one leaves something to the others.
  EXPECT_EQ(wire_shares({use(400, true, true), use(), use()}), (Shares{400, 300, 300}));
}

TEST(WireShares, NobodyGetsNothing) {
  WireUse tiny = use();
  tiny.fabric_bytes_per_s = 1;
  EXPECT_EQ(wire_shares({tiny, tiny, tiny}), (Shares{1, 1, 1}));
}

TEST(Wire, NewLimitsWheneverSomethingChanges) {
  Wire wire(1);
  Shares limits(2, 99);
  Wire::Stream first = wire.join(use(0, false), [&](std::uint64_t rate) { limits[0] = rate; });
  {
    Wire::Stream second = wire.join(use(0, false), [&](std::uint64_t rate) { limits[1] = rate; });
    first.set_sending(true);
    EXPECT_EQ(limits, (Shares{99, 99}));  // none, as at first: nothing to set
    second.set_sending(true);
    EXPECT_EQ(limits, (Shares{500, 500}));
    second.set_frozen();
    EXPECT_EQ(limits, (Shares{50, 0}));
    second.set_thawed();
    EXPECT_EQ(limits, (Shares{0, 0}));
    second.set_frozen();
    const Wire::Stream moved = std::move(second);
    EXPECT_EQ(limits, (Shares{50, 0}));
  }
  EXPECT_EQ(limits, (Shares{0, 0}));  // it has left
}

TEST(Wire, FreezesInTurn) {
  asio::io_context context;
  Wire wire(1);
  Wire::Stream first = wire.join(use(), {});
  Wire::Stream second = wire.join(use(), {});
  std::vector<bool> at_once;
  const auto take = [&](Wire::Stream& stream) {
    asio::co_spawn(context, stream.take_turn(Milliseconds(20)),
                   [&](std::exception_ptr, bool now) { at_once.push_back(now); });
    context.restart();
    context.run();
  };
  take(first);
  take(first);  // has it
  take(second);
  EXPECT_EQ(at_once, (std::vector<bool>{true, true, false}));
  EXPECT_TRUE(first.has_turn());
  EXPECT_FALSE(second.has_turn());
  first.set_thawed();
  take(second);
  EXPECT_TRUE(second.has_turn());
  EXPECT_TRUE(at_once.back());
}

TEST(Wire, WaitingForATurnEndsWithACancellationOrInTime) {
  asio::io_context context;
  Wire wire(1);
  Wire::Stream first = wire.join(use(), {});
  Wire::Stream second = wire.join(use(), {});
  Cancellation none;
  Cancellation cancelled;
  ASSERT_TRUE(cancelled.request("not wanted any more").has_value());
  std::vector<Status> ended;
  const auto done = [&](std::exception_ptr, Status status) { ended.push_back(std::move(status)); };
  asio::co_spawn(context, first.wait_for_turn(none, Milliseconds(1000)), done);
  context.run();
  asio::co_spawn(context, second.wait_for_turn(cancelled, Milliseconds(1000)), done);
  asio::co_spawn(context, second.wait_for_turn(none, Milliseconds(10)), done);
  context.restart();
  context.run();
  ASSERT_EQ(ended.size(), 3U);
  EXPECT_TRUE(ended[0].has_value());
  ASSERT_FALSE(ended[1].has_value());
  EXPECT_EQ(ended[1].error().code, Errc::kCancelled);
  ASSERT_FALSE(ended[2].has_value());
  EXPECT_EQ(ended[2].error().code, Errc::kTimeout);
}

}  // namespace
}  // namespace lifeboat
