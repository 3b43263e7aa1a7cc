// What a daemon knows of its own state and of others', and what follows from it.
#include "health.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "heartbeat.hpp"

namespace lifeboat {
namespace {

using predictor::NodeCondition;
using predictor::StateSignal;
using predictor::SignalDetails;

class HealthTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/health_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] Health opened() const {
    Health health(HealthConfig{}, "n1");
    EXPECT_TRUE(health.open(directory_ + "/states.jsonl"));
    return health;
  }
  std::string directory_;
};

SignalDetails saying(const std::string& text) {
  SignalDetails details;
  details.text = text;
  return details;
}

TEST_F(HealthTest, NothingArrivesAtANodeThatIsNotUp) {
  Health health = opened();
  EXPECT_TRUE(health.check_arrival());
  EXPECT_TRUE(health.apply("n1", StateSignal::kDegrade, saying("a fan is loud")));
  const auto refused = health.check_arrival();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::kRefused);
  EXPECT_EQ(refused.error().message.substr(0, 26), "node n1 is degraded since ");
  EXPECT_NE(refused.error().message.find("Z (operator): a fan is loud"), std::string::npos)
      << refused.error().message;
}

TEST_F(HealthTest, AClockThatIsSetNeitherEndsNorProlongsAProbation) {
  using namespace std::chrono;
  HealthConfig config;
  config.probation = minutes(10);
  for (const auto step : {hours(24), hours(-24)}) {
    Health health(config, "n1");
    const predictor::Time start = health_now();
    const SteadyClock::time_point steady = SteadyClock::now();
    health.apply("n1", StateSignal::kRepaired, saying("it came back"));
    ASSERT_EQ(health.own().condition(), NodeCondition::kDegraded);
    health.tick(start + seconds(1), steady + seconds(1));
    health.tick(start + step + seconds(2), steady + seconds(2));
    health.tick(start + step + minutes(9), steady + minutes(9));
    EXPECT_EQ(health.own().condition(), NodeCondition::kDegraded);
    health.tick(start + step + minutes(11), steady + minutes(11));
    EXPECT_EQ(health.own().condition(), NodeCondition::kUp);
  }
}

TEST_F(HealthTest, ADaemonThatStartsAgainKnowsWhatItKnew) {
  {
    Health health = opened();
    health.apply("n1", StateSignal::kDegrade, saying("a fan is loud"));
    health.apply("n2", StateSignal::kHeartbeatLost, saying("silent"));
    health.apply("n3", StateSignal::kDegrade, saying("x"));
    health.apply("n3", StateSignal::kRestore, saying(""));
  }
  const Health health = opened();
  ASSERT_NE(health.own().reason(), nullptr);
  EXPECT_EQ(health.own().reason()->text, "a fan is loud");
  EXPECT_EQ(health.all().at("n2").condition(), NodeCondition::kDown);
  EXPECT_FALSE(health.all().contains("n3") &&
               health.all().at("n3").condition() != NodeCondition::kUp);
}

TEST_F(HealthTest, TellsOfItsOwnChangesOnly) {
  Health health = opened();
  int changes = 0;
  health.on_own_change([&] { ++changes; });
  health.apply("n2", StateSignal::kHeartbeatLost, saying("silent"));
  EXPECT_EQ(changes, 0);
  health.apply("n1", StateSignal::kDegrade, saying("x"));
  health.apply("n1", StateSignal::kDegrade, saying("x"));
  EXPECT_EQ(changes, 1) << "said twice it is one change";
  health.apply("n1", StateSignal::kRestore, saying(""));
  EXPECT_EQ(changes, 2);
}

TEST(WhyClosed, OfANodeThatSaysNothingOfItsState) {
  EXPECT_EQ(why_closed("n1", json::object{}), "");
  EXPECT_EQ(why_closed("n1", json::object{{"state", "up"}}), "");
  EXPECT_EQ(why_closed("n1", json::object{{"state", "down"}, {"cause", "heartbeat"}}),
            "node n1 is down since  (heartbeat): ");
}

TEST(HeartbeatListeners, TheHeadsOrElseTheFirstNode) {
  Config config;
  for (const char* name : {"a", "b", "c"}) {
    NodeConfig node;
    node.name = name;
    config.nodes.push_back(node);
  }
  EXPECT_EQ(heartbeat_listeners(config), std::vector<std::string>{"a"});
  config.nodes[1].role = NodeRole::kHead;
  config.nodes[2].role = NodeRole::kHead;
  EXPECT_EQ(heartbeat_listeners(config), (std::vector<std::string>{"b", "c"}));
}

}  // namespace
}  // namespace lifeboat
