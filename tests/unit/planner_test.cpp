// Which node gets which container, and which address.
#include "planner.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;
using Names = std::vector<std::string>;

std::vector<NodeRoom> nodes() { return {{"n1", 4 * kGiB, 8}, {"n2", 2 * kGiB, 8}, {"n3", 4 * kGiB, 1}}; }

std::string refused(const Result<Names>& placed) {
  EXPECT_FALSE(placed.has_value());
  if (placed) return {};
  EXPECT_EQ(placed.error().code, Errc::kRefused);
  return placed.error().message;
}

TEST(Place, InTurnOverTheNodes) {
  EXPECT_EQ(place(nodes(), 3, kGiB, {}).value(), (Names{"n1", "n2", "n3"}));
  EXPECT_EQ(place(nodes(), 1, kGiB, {}).value(), (Names{"n1"}));
  EXPECT_EQ(place(nodes(), 0, kGiB, {}).value(), Names{});
}

TEST(Place, PassesOverThoseWithoutRoom) {
  // n3 has one slot, n2 memory for two.
  EXPECT_EQ(place(nodes(), 7, kGiB, {}).value(), (Names{"n1", "n2", "n3", "n1", "n2", "n1", "n1"}));
  EXPECT_EQ(place(nodes(), 2, 3 * kGiB, {}).value(), (Names{"n1", "n3"}));
}

TEST(Place, NothingOnAClosedNode) {
  auto some = nodes();
  some[0].closed = "node n1 is degraded since noon (operator): fan";
  EXPECT_EQ(place(some, 2, kGiB, {}).value(), (Names{"n2", "n3"}));
  const std::string said = refused(place(some, 1, kGiB, {"n1"}));
  EXPECT_NE(said.find("; node n1 is degraded since noon (operator): fan"), std::string::npos) << said;
}

TEST(Place, OnlyOnWantedNodesInTheirOrder) {
  EXPECT_EQ(place(nodes(), 2, kGiB, {"n3", "n1"}).value(), (Names{"n3", "n1"}));
  EXPECT_EQ(place(nodes(), 2, kGiB, {"n2"}).value(), (Names{"n2", "n2"}));
  EXPECT_EQ(refused(place(nodes(), 1, kGiB, {"n1", "n9"})),
            "node n9, named by the job, is no compute node that can be reached");
}

// Named twice it gets twice the share, never more than it has.
TEST(Place, ANodeNamedTwiceHasItsRoomOnce) {
  EXPECT_EQ(refused(place(nodes(), 2, kGiB, {"n3", "n3"})),
            "room for only 1 of 2 containers of 1024 MiB; n3: 0 slots and 3072 MiB left");
}

TEST(Place, SaysWhatIsMissingWhere) {
  EXPECT_EQ(refused(place(nodes(), 8, kGiB, {})),
            "room for only 7 of 8 containers of 1024 MiB; n1: 4 slots and 0 MiB left; n2: 6 slots "
            "and 0 MiB left; n3: 0 slots and 3072 MiB left");
  EXPECT_EQ(refused(place({}, 1, kGiB, {})),
            "room for only 0 of 1 containers of 1024 MiB; no compute node can be reached");
}

FabricConfig fabric(const std::string& subnet) { return {"f", "br-f", subnet, 0}; }

TEST(FreeAddresses, CountUpAndSkipWhatIsUsed) {
  EXPECT_EQ(free_addresses(fabric("10.1.0.0/16"), 2, {}).value(), (Names{"10.1.1.1", "10.1.1.2"}));
  EXPECT_EQ(free_addresses(fabric("10.1.0.0/16"), 2, {"10.1.1.1", "10.1.1.3"}).value(),
            (Names{"10.1.1.2", "10.1.1.4"}));
  EXPECT_EQ(free_addresses(fabric("10.1.0.0/24"), 1, {}).value(), (Names{"10.1.0.65"}));
  EXPECT_TRUE(free_addresses(fabric("10.1.0.0/24"), 0, {}).value().empty());
}

TEST(FreeAddresses, NoneThatLooksLikeANetwork) {
  const auto found = free_addresses(fabric("10.1.0.0/16"), 600, {}).value();
  ASSERT_EQ(found.size(), 600u);
  for (const std::string& address : found) {
    const std::string last = address.substr(address.rfind('.'));
    EXPECT_TRUE(last != ".0" && last != ".255") << address;
  }
}

TEST(FreeAddresses, AFullSubnet) {
  EXPECT_EQ(free_addresses(fabric("10.1.0.0/24"), 190, {}).value().size(), 190u);
  EXPECT_EQ(refused(free_addresses(fabric("10.1.0.0/24"), 191, {})),
            "fabric f: no free address left in 10.1.0.0/24");
  EXPECT_EQ(refused(free_addresses(fabric("10.1.0.0/30"), 1, {})),
            "fabric f: no free address left in 10.1.0.0/30");
}

TEST(FreeAddresses, ABadSubnet) {
  for (const char* text : {"", "10.1.0.0", "x/16"}) {
    const auto found = free_addresses(fabric(text), 1, {});
    ASSERT_FALSE(found.has_value());
    EXPECT_EQ(found.error().message, "fabric f: bad subnet " + std::string(text));
  }
}

}  // namespace
}  // namespace lifeboat
