// How many connections and requests peers may have.
#include "peer_gate.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace lifeboat {
namespace {

TEST(PeerGate, StrangersOfOneAddress) {
  PeerGate gate({1000, 10, 100});
  std::vector<PeerGate::Pass> passes;
  for (std::size_t i = 0; i < PeerGate::kStrangersPerAddress; ++i) {
    auto pass = gate.enter("10.0.0.1");
    ASSERT_TRUE(pass);
    passes.push_back(std::move(*pass));
  }
  EXPECT_FALSE(gate.enter("10.0.0.1"));
  EXPECT_TRUE(gate.enter("10.0.0.2"));
  passes.pop_back();
  EXPECT_TRUE(gate.enter("10.0.0.1"));
}

TEST(PeerGate, StrangersLeaveRoomForNodes) {
  PeerGate gate({40, 40, 100});
  std::vector<PeerGate::Pass> strangers;
  for (int i = 0; i < 10; ++i) {
    auto pass = gate.enter("10.0.0." + std::to_string(i));
    ASSERT_TRUE(pass);
    strangers.push_back(std::move(*pass));
  }
  EXPECT_FALSE(gate.enter("10.0.0.99"));
  // One of them turns out to be a node: there is a place for another stranger.
  EXPECT_TRUE(gate.admit(strangers.front(), "n1"));
  EXPECT_TRUE(gate.enter("10.0.0.99"));
  EXPECT_EQ(gate.connections(), 10u);
}

TEST(PeerGate, StrangersAreNeverTooManyToShakeHandsWith) {
  PeerGate gate({30'000, 10, 100});
  std::vector<PeerGate::Pass> passes;
  for (std::size_t i = 0; i < PeerGate::kStrangers; ++i) {
    auto pass = gate.enter("10.0.0." + std::to_string(i));
    ASSERT_TRUE(pass);
    passes.push_back(std::move(*pass));
  }
  EXPECT_FALSE(gate.enter("10.0.1.1"));
  EXPECT_TRUE(gate.admit(passes.front(), "n1"));
  EXPECT_TRUE(gate.enter("10.0.1.1"));
}

TEST(PeerGate, AllPlacesAndEachNodes) {
  PeerGate gate({8, 3, 100});
  std::vector<PeerGate::Pass> passes;
  const auto enter = [&](const std::string& node) {
    auto pass = gate.enter("10.0.0.1");
    if (!pass || !gate.admit(*pass, node)) return false;
    passes.push_back(std::move(*pass));
    return true;
  };
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(enter("n1"));
  EXPECT_FALSE(enter("n1"));
  EXPECT_EQ(gate.connections(), 3u);  // who was not admitted has given its place back
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(enter("n2"));
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(enter("n3"));
  EXPECT_FALSE(enter("n4"));  // all eight
  passes.clear();
  EXPECT_EQ(gate.connections(), 0u);
  EXPECT_TRUE(enter("n1"));
}

TEST(PeerGate, WhoAsksTooOftenWaits) {
  PeerGate gate({8, 3, 10});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(gate.delay_s("n1", 100), 0) << i;
  EXPECT_NEAR(gate.delay_s("n1", 100), 0.1, 1e-9);
  EXPECT_NEAR(gate.delay_s("n1", 100), 0.2, 1e-9);
  EXPECT_EQ(gate.delay_s("n2", 100), 0);
  // Ten a second are never held up, however long it goes on.
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(gate.delay_s("n1", 102 + i * 0.1), 0) << i;
}

}  // namespace
}  // namespace lifeboat
