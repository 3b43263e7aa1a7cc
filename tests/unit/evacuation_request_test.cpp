// What a node that is to be empty makes of what the others say of themselves.
#include "evacuation_request.hpp"

#include <gtest/gtest.h>

#include "cluster_view.hpp"
#include "health.hpp"

namespace lifeboat {
namespace {

using predictor::StateSignal;
using predictor::Time;
using std::chrono::minutes;

constexpr std::uint64_t kGiB = 1ULL << 30;
const Time kNoon = Time(predictor::Duration(1'700'000'000'000'000));

const char* const kConfig = R"(
cluster: test
fabrics: [{name: 1g, bridge: br, subnet: 10.1.0.0/16, rate: 1Gbit}]
nodes:
  - {name: n1, addresses: {1g: 10.1.0.11}, memory: 8GiB}
  - {name: n2, addresses: {1g: 10.1.0.12}, memory: 8GiB}
  - {name: n3, addresses: {1g: 10.1.0.13}, memory: 8GiB}
)";

json::object node(const std::string& name, std::uint64_t free_bytes, int slots = 8) {
  return {{"name", name},         {"role", "compute"},      {"criu", "4.2"},
          {"state", "up"},        {"slots_free", slots},    {"memory_free_bytes", free_bytes},
          {"containers", json::array{}}, {"migrations", json::array{}}};
}

json::object container(const std::string& id, const char* state = "running") {
  return {{"id", id}, {"state", state}, {"memory_bytes", kGiB}};
}

void degrade(json::object& node, StateSignal signal, Time since) {
  predictor::NodeState state{predictor::StateTimes{}};
  predictor::SignalDetails details;
  details.text = "fan";
  state.apply(signal, details, since);
  for (const auto& item : to_json(state)) node[item.key()] = item.value();
}

evacuation::Request request_of(const json::array& view) {
  evacuation::Evacuation leaving;
  leaving.node = "n1";
  return request_from(parse_config(kConfig, "test.yaml").value(), view, kNoon, leaving);
}

TEST(EvacuationRequest, GoesWhereThereIsRoomAndNamesWhatFindsNone) {
  json::object n1 = node("n1", 0);
  n1["containers"] = json::array{container("a"), container("b"), container("c")};
  json::object n2 = node("n2", 2 * kGiB);
  json::object n3 = node("n3", 8 * kGiB);
  degrade(n3, StateSignal::kDegrade, kNoon);
  const auto plan = evacuation::plan_evacuation(request_of({n1, n2, n3}));
  ASSERT_TRUE(plan) << plan.error().message;
  ASSERT_EQ(plan->steps.size(), 2u);
  for (const auto& step : plan->steps) {
    EXPECT_EQ(step.to, "n2");
    EXPECT_EQ(step.fabric, "1g");
  }
  ASSERT_EQ(plan->unplaced.size(), 1u);
  EXPECT_NE(plan->unplaced[0].why.find("n3"), std::string::npos) << plan->unplaced[0].why;
}

TEST(EvacuationRequest, CountsWhatIsOnItsWayOnce) {
  json::object n1 = node("n1", 0);
  n1["containers"] = json::array{container("a", "leaving"), container("b", "leaving"), container("c")};
  const json::object to_n2{
      {"container", "a"}, {"target", "n2"}, {"fabric", "1g"}, {"resident_bytes", 100}, {"bytes_sent", 30}};
  const json::object there_already{{"container", "b"}, {"target", "n2"}, {"fabric", "1g"}};
  n1["migrations"] = json::array{to_n2, there_already};
  json::object n2 = node("n2", 2 * kGiB, 2);  // without what b has reserved there
  n2["containers"] = json::array{container("b", "arriving")};
  const evacuation::Request request = request_of({n1, n2});
  ASSERT_EQ(request.nodes.size(), 2u);
  EXPECT_EQ(request.nodes[1].memory_free_bytes, 3 * kGiB) << "the planner takes b off itself";
  EXPECT_EQ(request.nodes[1].slots_free, 3u);
  EXPECT_EQ(request.containers.size(), 3u);
  ASSERT_EQ(request.under_way.size(), 2u);
  EXPECT_EQ(request.under_way[0].bytes_left, 70u);
  const auto plan = evacuation::plan_evacuation(request);
  ASSERT_TRUE(plan) << plan.error().message;
  ASSERT_EQ(plan->steps.size(), 1u) << "a, b and c fit";
  EXPECT_EQ(plan->steps[0].container, "c");
}

TEST(EvacuationRequest, NotBackToWhereItCameFromALittleAgo) {
  json::object n1 = node("n1", 0);
  json::object moved = container("a");
  moved["came_from"] = "n2";
  moved["came_at"] = 1'700'000'000 - 60;
  n1["containers"] = json::array{moved};
  const auto plan = evacuation::plan_evacuation(request_of({n1, node("n2", 8 * kGiB), node("n3", 2 * kGiB)}));
  ASSERT_TRUE(plan) << plan.error().message;
  ASSERT_EQ(plan->steps.size(), 1u);
  EXPECT_EQ(plan->steps[0].to, "n3") << plan->steps[0].why;
}

TEST(EvacuationRequest, SilentNodesAndThoseWithoutCriuTakeNothing) {
  json::object silent = node("n1", 0);
  silent["reachable"] = false;
  json::object without = node("n2", kGiB);
  without["criu"] = "";
  const evacuation::Request request = request_of({silent, without});
  EXPECT_EQ(request.nodes[0].health, evacuation::Health::kDown);
  EXPECT_EQ(request.nodes[1].health, evacuation::Health::kUp);
  EXPECT_FALSE(request.nodes[1].accepts);
}

TEST(ClusterView, ANodeThatDoesNotAnswerIsNamed) {
  const json::object silent{{"name", "n1"}, {"role", "compute"}, {"error", "no route to host"}};
  json::array skipped;
  const auto leavers = leavers_from(json::array{silent}, "n1", skipped);
  ASSERT_FALSE(leavers);
  EXPECT_EQ(leavers.error().message, "node n1 does not answer: no route to host");
}

// Peers' answers are foreign: what is in their lists may be anything.
TEST(ClusterView, TakesOnlyObjectsForObjects) {
  json::object n1 = node("n1", 0);
  n1["containers"] = json::array{7, container("a"), "b", nullptr};
  n1["reasons"] = json::array{"fan", 1, json::array{}};
  json::object n2 = node("n2", 0);
  n2["containers"] = "none";
  const json::array view{n1, n2};
  EXPECT_EQ(storm_text(EvacuationConfig(), view, kNoon), "");
  const json::object all = containers_of(view);
  ASSERT_EQ(all.at("containers").get_array().size(), 1u);
  EXPECT_EQ(string_or(all.at("containers").get_array()[0].get_object(), "id"), "a");
  EXPECT_EQ(all.at("unreachable"), json::array{"n2"});
  const json::object said{{"down", {{"n1", json::object{{"state", "down"}}}, {"n2", "down"}}}};
  EXPECT_EQ(members_of(said, "down").size(), 1u);
  EXPECT_TRUE(members_of(json::object{{"down", 7}}, "down").empty());
}

json::array cluster(unsigned nodes, unsigned degraded, StateSignal signal, Time since) {
  json::array view;
  for (unsigned i = 0; i < nodes; ++i) {
    json::object one = node("n" + std::to_string(i), 0);
    if (i < degraded) degrade(one, signal, since);
    view.push_back(std::move(one));
  }
  return view;
}

TEST(Storm, ManyAtOnceAreNoFailureOfNodes) {
  const EvacuationConfig automatic;
  const auto storm = [&](unsigned nodes, unsigned degraded) {
    return storm_text(automatic, cluster(nodes, degraded, StateSignal::kVerdictDegraded, kNoon), kNoon);
  };
  EXPECT_EQ(storm(8, 3), "");
  EXPECT_EQ(storm(8, 4).substr(0, 61), "4 nodes turned degraded within five minutes, more than 3 (eva");
  EXPECT_EQ(storm(100, 10), "");
  EXPECT_NE(storm(100, 11), "");
  EvacuationConfig one;
  one.facility_nodes = 1;
  const json::array two = cluster(100, 2, StateSignal::kVerdictDegraded, kNoon);
  EXPECT_NE(storm_text(one, two, kNoon), "");
}

TEST(Storm, OnlyWhatThePredictorSaidAtAboutThatTime) {
  const EvacuationConfig config;
  const json::array operators = cluster(8, 8, StateSignal::kDegrade, kNoon);
  EXPECT_EQ(storm_text(config, operators, kNoon), "");
  const json::array early = cluster(8, 8, StateSignal::kVerdictDegraded, kNoon - minutes(6));
  EXPECT_EQ(storm_text(config, early, kNoon), "");
  const json::array later = cluster(8, 8, StateSignal::kVerdictDegraded, kNoon + minutes(4));
  EXPECT_NE(storm_text(config, later, kNoon), "");
}

// What a head says of Slurm holds for the containers of those jobs, wherever they are.
TEST(EvacuationRequest, KnowsTheAllocationsOfJobsInSlurm) {
  json::object n1 = node("n1", 0);
  json::object bound = container("a-0");
  bound["job"] = "a";
  json::object free = container("b-0");
  free["job"] = "b";
  n1["containers"] = json::array{bound, free};
  json::object head{{"name", "head"}, {"role", "head"}};
  head["slurm"] = json::object{{"allocations", json::object{{"a", json::array{"n1", "n3"}}}},
                               {"idle", json::array{"n2"}}, {"closed", json::array{"n3"}}};
  const evacuation::Request request = request_of({n1, node("n2", 8 * kGiB), node("n3", 8 * kGiB), head});
  ASSERT_EQ(request.containers.size(), 2U);
  EXPECT_EQ(request.containers[0].allocation, (std::set<std::string>{"n1", "n3"}));
  EXPECT_EQ(request.containers[0].outside, std::set<std::string>{"n2"});
  EXPECT_TRUE(request.containers[1].allocation.empty());
  EXPECT_TRUE(request.nodes[1].accepts);
  EXPECT_FALSE(request.nodes[2].accepts) << "somebody drains it in Slurm";
  head["slurm"] = "nonsense";
  EXPECT_TRUE(request_of({n1, head}).containers[0].allocation.empty());
}

}  // namespace
}  // namespace lifeboat
