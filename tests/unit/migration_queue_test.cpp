// Whose turn it is: at the source, and at the target.
#include "migration_queue.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

using Ids = std::vector<std::string>;

MigrationQueue queue_of(QueueLimits limits, const Ids& ids, const std::string& fabric = "10g") {
  MigrationQueue queue(limits);
  for (const std::string& id : ids) queue.add(id, fabric);
  return queue;
}

TEST(MigrationQueue, InOrderUpToTheLimit) {
  MigrationQueue queue = queue_of({2, 2}, {"a", "b", "c", "d"});
  EXPECT_FALSE(queue.start("c", 0));  // whoever asks first: a and b go before
  EXPECT_TRUE(queue.start("b", 0));
  EXPECT_TRUE(queue.start("a", 0));
  EXPECT_FALSE(queue.start("c", 0));
  EXPECT_EQ(queue.leaving(), 2U);
  EXPECT_EQ(queue.position("a"), 0U);
  EXPECT_EQ(queue.position("c"), 1U);
  EXPECT_EQ(queue.position("d"), 2U);
  queue.remove("b");
  EXPECT_FALSE(queue.start("d", 0));
  EXPECT_TRUE(queue.start("c", 0));
  EXPECT_EQ(queue.position("d"), 1U);
}

TEST(MigrationQueue, OneThatIsCancelledMakesRoomForTheNext) {
  MigrationQueue queue = queue_of({1, 1}, {"a", "b", "c"});
  EXPECT_TRUE(queue.start("a", 0));
  queue.remove("b");
  EXPECT_EQ(queue.position("c"), 1U);
  queue.remove("a");
  EXPECT_TRUE(queue.start("c", 0));
  EXPECT_FALSE(queue.start("b", 0));  // not known any more
}

TEST(MigrationQueue, AFullFabricHoldsBackItsOwnOnly) {
  MigrationQueue queue({3, 1});
  queue.add("slow1", "1g");
  queue.add("slow2", "1g");
  queue.add("fast", "10g");
  EXPECT_TRUE(queue.start("slow1", 0));
  EXPECT_FALSE(queue.start("slow2", 0));
  EXPECT_TRUE(queue.start("fast", 0));
  EXPECT_EQ(queue.ahead("slow2"), (Ids{"slow1"}));
  EXPECT_EQ(queue.ahead("fast"), Ids{});
  EXPECT_EQ(queue.ahead("nobody"), Ids{});
}

// Turned away by its target it holds no place here, and does not hold up those behind it.
TEST(MigrationQueue, OneThatIsPutOffLetsOthersPassAndKeepsItsPlace) {
  MigrationQueue queue = queue_of({1, 1}, {"a", "b", "c"});
  EXPECT_TRUE(queue.start("a", 0));
  queue.put_off("a", 5);
  EXPECT_EQ(queue.leaving(), 0U);
  EXPECT_EQ(queue.position("a"), 1U);
  EXPECT_FALSE(queue.start("a", 4.9));
  EXPECT_TRUE(queue.start("b", 4.9));
  queue.remove("b");
  EXPECT_FALSE(queue.start("c", 5.1));  // a is before it again
  EXPECT_TRUE(queue.start("a", 5.1));
}

TEST(ArrivalGate, WhoAsksFirstComesInFirst) {
  ArrivalGate gate(2);
  EXPECT_TRUE(gate.admit("a", 0, 0));
  EXPECT_TRUE(gate.admit("b", 1, 0));
  EXPECT_FALSE(gate.admit("c", 2, 0));
  EXPECT_FALSE(gate.admit("d", 2, 0));
  EXPECT_FALSE(gate.admit("d", 1, 1));  // one place, and c was before
  EXPECT_TRUE(gate.admit("c", 1, 1));
  EXPECT_FALSE(gate.admit("d", 2, 1));
  EXPECT_TRUE(gate.admit("d", 1, 1.2));
}

TEST(ArrivalGate, WhoHasGivenUpIsNotWaitedFor) {
  ArrivalGate gate(1);
  EXPECT_FALSE(gate.admit("a", 1, 0));
  EXPECT_FALSE(gate.admit("b", 1, 0));
  EXPECT_FALSE(gate.admit("b", 0, 2));
  EXPECT_TRUE(gate.admit("b", 0, 4));
}

TEST(ArrivalGate, AFullNodeIsAskedForASecond) {
  ArrivalGate gate(1);
  EXPECT_TRUE(gate.ask_again("a", 10));
  EXPECT_TRUE(gate.ask_again("a", 10.9));
  EXPECT_TRUE(gate.ask_again("b", 11.5));  // each has a second of its own
  EXPECT_FALSE(gate.ask_again("a", 11.5));
  EXPECT_FALSE(gate.ask_again("b", 12.6));
}

}  // namespace
}  // namespace lifeboat
