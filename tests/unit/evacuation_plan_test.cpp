// How a node is emptied: examples that say what the planner promises, one by one. What must hold
// for any request is in evacuation_property_test.cpp.
#include "evacuation_plan.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace lifeboat::evacuation {
namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint64_t kGB = 1'000'000'000;

Node node(const std::string& name, std::uint64_t free_gib = 64, Health health = Health::kUp) {
  Node node;
  node.name = name;
  node.health = health;
  node.memory_free_bytes = free_gib * kGiB;
  node.slots_free = 8;
  node.fabrics["eth"] = 1e9;
  return node;
}

// Writes next to nothing: its memory is sent once, at 1 GB/s.
Container container(const std::string& id, const std::string& where, std::uint64_t gb,
                    const std::string& job = "") {
  Container container;
  container.id = id;
  container.job = job;
  container.node = where;
  container.memory_bytes = gb * kGB;
  container.resident_bytes = gb * kGB;
  container.dirty_bytes_per_s = 0;
  return container;
}

// n1 is failing; n2 and n3 are well.
Request three_nodes() {
  Request request;
  request.fabrics = {{.name = "eth"}};
  request.nodes = {node("n1", 0, Health::kDegraded), node("n2"), node("n3")};
  request.evacuations = {{"n1", Reason::kFailing, 600}};
  return request;
}

Plan planned(const Request& request) {
  auto plan = plan_evacuation(request);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  return plan.value_or(Plan{});
}

const Step& step_of(const Plan& plan, const std::string& id) {
  const auto at = std::find_if(plan.steps.begin(), plan.steps.end(),
                               [&](const Step& step) { return step.container == id; });
  if (at == plan.steps.end()) throw std::runtime_error("no step for " + id);
  return *at;
}

std::string refused(const Request& request) {
  const auto plan = plan_evacuation(request);
  EXPECT_FALSE(plan.has_value());
  if (plan) return {};
  EXPECT_EQ(plan.error().code, Errc::kInvalid);
  return plan.error().message;
}

TEST(EvacuationPlan, PredictsOneMigrationFromItsMemoryAndTheWire) {
  Request request = three_nodes();
  request.containers = {container("c1", "n1", 4)};
  const Plan plan = planned(request);
  ASSERT_EQ(plan.steps.size(), 1U);
  // 0.3 s to set up, 4 GB at 1 GB/s, 0.1 s frozen.
  EXPECT_NEAR(plan.steps[0].duration_s, 4.4, 1e-9);
  EXPECT_NEAR(plan.steps[0].downtime_s, 0.1, 1e-9);
  EXPECT_EQ(plan.steps[0].mode, Mode::kPreCopy);
  EXPECT_TRUE(plan.nodes.at(0).fits);
  EXPECT_NEAR(plan.nodes[0].end_s, 4.4, 1e-9);
  EXPECT_EQ(plan.jobs_saved, 1U);
}

TEST(EvacuationPlan, WhatIsWrittenMeanwhileIsSentAgain) {
  Request request = three_nodes();
  request.containers = {container("c1", "n1", 4)};
  request.containers[0].dirty_bytes_per_s = 0.5e9;
  const Plan plan = planned(request);
  ASSERT_EQ(plan.steps.size(), 1U);
  // 4, 2, 1, .5, .25, .125, .0625 GB, then 31.25 MB within the budget of 50 ms, frozen.
  EXPECT_NEAR(plan.steps[0].duration_s, 0.4 + 7.9375 + 0.03125, 1e-6);
  EXPECT_NEAR(plan.steps[0].downtime_s, 0.1 + 0.03125, 1e-6);
}

TEST(EvacuationPlan, NeverToANodeThatIsNotWell) {
  for (const Health health : {Health::kProbation, Health::kSuspect, Health::kDegraded,
                              Health::kDown, Health::kMaintenance}) {
    Request request = three_nodes();
    request.nodes = {node("n1", 0, Health::kDegraded), node("n2", 64, health)};
    request.containers = {container("c1", "n1", 4)};
    const Plan plan = planned(request);
    EXPECT_TRUE(plan.steps.empty()) << to_string(health);
    ASSERT_EQ(plan.unplaced.size(), 1U);
    EXPECT_EQ(plan.unplaced[0].why, std::string("there is no healthy node to go to: ") +
                                        "n1 (being evacuated), n2 (" + to_string(health) + ")");
    EXPECT_FALSE(plan.nodes.at(0).fits);
  }
}

TEST(EvacuationPlan, OneOnProbationOnlyAsALastResort) {
  Request request = three_nodes();
  request.settings.allow_probation = true;
  request.nodes = {node("n1", 0, Health::kDegraded), node("n2", 64, Health::kProbation),
                   node("n3", 5)};
  request.containers = {container("c1", "n1", 4), container("c2", "n1", 4)};
  const Plan plan = planned(request);
  ASSERT_EQ(plan.steps.size(), 2U);
  EXPECT_NE(step_of(plan, "c1").to, step_of(plan, "c2").to);
  request.containers.pop_back();
  EXPECT_EQ(step_of(planned(request), "c1").to, "n3");
}

TEST(EvacuationPlan, SaysWhyThereIsNoPlace) {
  Request request = three_nodes();
  request.containers = {container("c1", "n1", 8)};
  request.containers[0].fabrics = {"eth"};
  request.nodes = {node("n1", 0, Health::kDegraded), node("n2", 4), node("n3"), node("n4"),
                   node("n5")};
  request.nodes[2].slots_free = 0;
  request.nodes[3].fabrics = {{"ib", 1e9}};
  request.nodes[4].accepts = false;
  request.fabrics.push_back({.name = "ib"});
  const Plan plan = planned(request);
  ASSERT_EQ(plan.unplaced.size(), 1U);
  EXPECT_EQ(plan.unplaced[0].why,
            "no place on 3 healthy nodes: 1 without 7629 MiB of memory (at most 65536 MiB left), "
            "1 without a slot, 1 without a fabric on which it has an address; "
            "2 take nothing: n1 (being evacuated), n5 (kept free by an operator)");
}

TEST(EvacuationPlan, RanksOfAJobAreNotPutTogether) {
  Request request = three_nodes();
  request.nodes.push_back(node("n4", 640));
  request.nodes[3].fabrics["eth"] = 4e9;  // with more of everything
  request.containers = {container("r0", "n1", 4, "lu"), container("r1", "n1", 4, "lu"),
                        container("r2", "n4", 4, "lu")};
  const Plan plan = planned(request);
  const std::set<std::string> targets{step_of(plan, "r0").to, step_of(plan, "r1").to};
  EXPECT_EQ(targets, (std::set<std::string>{"n2", "n3"}));
}

TEST(EvacuationPlan, NorInOneRackIfThereIsAnother) {
  Request request = three_nodes();
  request.nodes[1].domain = "a";
  request.nodes[2].domain = "b";
  request.nodes.push_back(node("n4"));
  request.nodes[3].domain = "a";
  request.containers = {container("r0", "n1", 4, "lu"), container("r1", "n4", 4, "lu")};
  EXPECT_EQ(step_of(planned(request), "r0").to, "n3");
}

TEST(EvacuationPlan, TogetherRatherThanNotAtAllUnlessForbidden) {
  Request request = three_nodes();
  request.nodes = {node("n1", 0, Health::kDegraded), node("n2")};
  request.containers = {container("r0", "n1", 4, "lu"), container("r1", "n1", 4, "lu")};
  EXPECT_EQ(planned(request).steps.size(), 2U);
  request.settings.ranks_per_node_max = 1;
  const Plan plan = planned(request);
  EXPECT_EQ(plan.steps.size(), 1U);
  ASSERT_EQ(plan.unplaced.size(), 1U);
  EXPECT_NE(plan.unplaced[0].why.find("1 with as many ranks of its job as allowed"),
            std::string::npos);
}

TEST(EvacuationPlan, SparesFirst) {
  Request request = three_nodes();
  request.nodes[1].preference = 1;
  request.containers = {container("c1", "n1", 4)};
  EXPECT_EQ(step_of(planned(request), "c1").to, "n3");
}

TEST(EvacuationPlan, NoWayBackToANodeThatItLeftLately) {
  Request request = three_nodes();
  request.nodes.pop_back();
  request.containers = {container("c1", "n1", 4)};
  request.past = {{"c1", "n2", 600}};
  const Plan plan = planned(request);
  ASSERT_EQ(plan.unplaced.size(), 1U);
  EXPECT_NE(plan.unplaced[0].why.find("1 which it left a short time ago"), std::string::npos);
  request.past[0].seconds_ago = 3601;
  EXPECT_EQ(step_of(planned(request), "c1").to, "n2");
}

TEST(EvacuationPlan, OneThatHasJustComeMovesOnOnlyIfItsNodeFails) {
  Request request = three_nodes();
  request.containers = {container("c1", "n1", 4)};
  request.past = {{"c1", "n0", 40}};
  EXPECT_EQ(planned(request).steps.size(), 1U);
  request.evacuations[0].reason = Reason::kMaintenance;
  const Plan plan = planned(request);
  ASSERT_EQ(plan.unplaced.size(), 1U);
  EXPECT_EQ(plan.unplaced[0].why,
            "it was moved 40 s ago and its node is not failing: again in 260 s");
}

TEST(EvacuationPlan, TheMostUrgentNodeGoesFirst) {
  Request request = three_nodes();
  request.nodes.push_back(node("n4", 0, Health::kDegraded));
  request.nodes.push_back(node("n5", 0, Health::kMaintenance));
  request.evacuations = {{"n1", Reason::kFailing, 600},
                         {"n5", Reason::kMaintenance, {}},
                         {"n4", Reason::kFailing, 60}};
  request.containers = {container("c1", "n1", 4), container("c4", "n4", 4),
                        container("c5", "n5", 4)};
  request.limits.per_cluster = 1;
  const Plan plan = planned(request);
  ASSERT_EQ(plan.steps.size(), 3U);
  EXPECT_EQ(plan.steps[0].container, "c4");
  EXPECT_EQ(plan.steps[1].container, "c1");
  EXPECT_EQ(plan.steps[2].container, "c5");
  EXPECT_EQ(plan.steps[2].after, 2U);
  EXPECT_EQ(plan.steps[2].wave, 3U);
}

// 20 s are enough for two of the four containers: those of one job, rather than one of each.
TEST(EvacuationPlan, WhenNotAllCanBeSavedWholeJobsAre) {
  Request request = three_nodes();
  request.evacuations[0].lead_s = 20;
  request.containers = {container("a0", "n1", 6, "a"), container("a1", "n1", 5, "a"),
                        container("b0", "n1", 6, "b"), container("b1", "n1", 6, "b")};
  const Plan plan = planned(request);
  EXPECT_EQ(plan.jobs, 2U);
  EXPECT_EQ(plan.jobs_saved, 1U);
  ASSERT_EQ(plan.steps.size(), 4U);
  EXPECT_LE(step_of(plan, "a0").start_s + step_of(plan, "a0").duration_s, 20);
  EXPECT_LE(step_of(plan, "a1").start_s + step_of(plan, "a1").duration_s, 20);
  EXPECT_FALSE(plan.nodes.at(0).fits);
}

TEST(EvacuationPlan, WhenThereIsNotRoomForAllWholeJobsGetIt) {
  Request request = three_nodes();
  request.nodes = {node("n1", 0, Health::kDegraded), node("n2", 10)};
  request.containers = {container("a0", "n1", 6, "a"), container("a1", "n1", 6, "a"),
                        container("b0", "n1", 5, "b"), container("b1", "n1", 5, "b")};
  const Plan plan = planned(request);
  EXPECT_EQ(plan.jobs_saved, 1U);
  ASSERT_EQ(plan.steps.size(), 2U);
  EXPECT_EQ(step_of(plan, "b0").to, "n2");
  EXPECT_EQ(step_of(plan, "b1").to, "n2");
}

TEST(EvacuationPlan, StopAndCopyWhenThereIsNoTimeForRounds) {
  Request request = three_nodes();
  request.containers = {container("c1", "n1", 4)};
  request.containers[0].dirty_bytes_per_s = 0.6e9;
  request.evacuations[0].lead_s = 600;
  EXPECT_EQ(planned(request).steps.at(0).mode, Mode::kPreCopy);
  request.evacuations[0].lead_s = 7;
  const Plan plan = planned(request);
  EXPECT_EQ(plan.steps.at(0).mode, Mode::kStopAndCopy);
  EXPECT_NEAR(plan.steps[0].downtime_s, 4.1, 1e-9);
  EXPECT_NE(plan.steps[0].why.find("no time for rounds"), std::string::npos);
}

TEST(EvacuationPlan, PagesAreLeftBehindOnlyOnAHealthyNodeAndIfAllowed) {
  Request request = three_nodes();
  request.containers = {container("c1", "n1", 4)};
  request.containers[0].dirty_bytes_per_s = 2e9;  // beyond the wire
  request.settings.allow_post_copy = true;
  EXPECT_EQ(planned(request).steps.at(0).mode, Mode::kPreCopy);
  request.evacuations[0] = {"n1", Reason::kMaintenance, {}};
  EXPECT_EQ(planned(request).steps.at(0).mode, Mode::kHybrid);
  request.evacuations[0].lead_s = 8;
  EXPECT_EQ(planned(request).steps.at(0).mode, Mode::kPostCopy);
  request.settings.allow_post_copy = false;
  EXPECT_EQ(planned(request).steps.at(0).mode, Mode::kStopAndCopy);
}

TEST(EvacuationPlan, EachHasToLeaveInTimeForThoseAfterIt) {
  Request request = three_nodes();
  request.limits.leaving_per_node = 1;
  request.containers = {container("c1", "n1", 4), container("c2", "n1", 8)};
  const Plan plan = planned(request);
  ASSERT_EQ(plan.steps.size(), 2U);
  EXPECT_NEAR(plan.steps[1].latest_end_s, 600, 1e-9);
  EXPECT_NEAR(plan.steps[0].latest_end_s, 600 - plan.steps[1].duration_s, 1e-9);

  request.evacuations[0].lead_s = 6;  // not in time: the first one is late for the second
  const Plan late = planned(request);
  ASSERT_EQ(late.steps.size(), 2U);
  EXPECT_LT(late.steps[0].latest_end_s, late.steps[0].start_s + late.steps[0].duration_s);

  request.evacuations = {{"n1", Reason::kMaintenance, std::nullopt}};
  for (const Step& step : planned(request).steps) EXPECT_TRUE(std::isinf(step.latest_end_s));
}

TEST(EvacuationPlan, BothFabricsAreUsedIfThatIsSooner) {
  Request request = three_nodes();
  request.fabrics.push_back({.name = "ib"});
  for (Node& n : request.nodes) n.fabrics["ib"] = 3e9;
  for (const char* id : {"c1", "c2", "c3", "c4"})
    request.containers.push_back(container(id, "n1", 6));
  const Plan plan = planned(request);
  unsigned over_ib = 0;
  for (const Step& step : plan.steps) over_ib += step.fabric == "ib" ? 1 : 0;
  EXPECT_EQ(over_ib, 3U);
  EXPECT_LT(plan.end_s, 4 * 6 / 3.0);
}

TEST(EvacuationPlan, OneAtATimeOverAWireWhenSharingMeansSendingMoreTwice) {
  Request request = three_nodes();
  for (const char* id : {"c1", "c2", "c3", "c4"}) {
    request.containers.push_back(container(id, "n1", 8));
    request.containers.back().dirty_bytes_per_s = 0.3e9;
  }
  EXPECT_EQ(planned(request).streams_per_wire, 1U);
  // When hardly anything is sent, what counts is the rest: it is done beside each other.
  for (Container& c : request.containers) c.resident_bytes = kGB / 100;
  EXPECT_EQ(planned(request).streams_per_wire, 4U);
}

TEST(EvacuationPlan, AWindowBeginsAsLateAsIsSafe) {
  Request request = three_nodes();
  request.evacuations = {{"n1", Reason::kMaintenance, 3600}};
  request.containers = {container("c1", "n1", 10), container("c2", "n1", 10)};
  const Plan plan = planned(request);
  const NodeForecast& n1 = plan.nodes.at(0);
  const double takes_s = n1.end_s - n1.start_s;
  EXPECT_NEAR(n1.latest_start_s, 3600 - 1.5 * takes_s, 1e-6);
  EXPECT_NEAR(n1.start_s, n1.latest_start_s, 1e-6);
  EXPECT_TRUE(n1.fits);
  request.evacuations[0].lead_s = 25;
  const Plan late = planned(request);
  EXPECT_EQ(late.nodes.at(0).latest_start_s, 0);
  EXPECT_FALSE(late.nodes[0].fits);  // 20 s of sending, and half of that as a margin
  EXPECT_EQ(late.nodes[0].in_time, 2U);
}

TEST(EvacuationPlan, WhatIsUnderWayCounts) {
  Request request = three_nodes();
  request.nodes = {node("n1", 0, Health::kDegraded), node("n2", 10)};
  request.containers = {container("c1", "n1", 6), container("c2", "n1", 6)};
  request.under_way = {{"c1", "n2", "eth", 3 * kGB}};
  const Plan plan = planned(request);
  EXPECT_TRUE(plan.steps.empty());
  ASSERT_EQ(plan.unplaced.size(), 1U);  // the room is c1's
  EXPECT_EQ(plan.unplaced[0].container, "c2");
  EXPECT_EQ(plan.nodes.at(0).leaving, 2U);
  EXPECT_NEAR(plan.nodes[0].end_s, 3.1, 1e-9);
  // With room for both the wire is shared with it: 9 GB.
  request.nodes[1].memory_free_bytes = 64 * kGiB;
  EXPECT_NEAR(planned(request).end_s, 9.1, 1e-9);
}

TEST(EvacuationPlan, ATargetThatGoesBadWhileReceivingIsLeftOut) {
  Request request = three_nodes();
  request.nodes[1].health = Health::kDegraded;
  request.containers = {container("c1", "n1", 6)};
  request.under_way = {{"c1", "n2", "eth", 3 * kGB}};
  const Plan plan = planned(request);
  ASSERT_EQ(plan.cancel.size(), 1U);
  EXPECT_EQ(plan.cancel[0].why, "node n2 is degraded now");
  EXPECT_EQ(step_of(plan, "c1").to, "n3");
}

TEST(EvacuationPlan, NothingComesFromANodeThatIsDown) {
  Request request = three_nodes();
  request.nodes[0].health = Health::kDown;
  request.containers = {container("c1", "n1", 6, "lu")};
  const Plan plan = planned(request);
  EXPECT_TRUE(plan.steps.empty());
  ASSERT_EQ(plan.unplaced.size(), 1U);
  EXPECT_EQ(plan.unplaced[0].why, "node n1 is down: there is nothing left to move");
}

TEST(EvacuationPlan, WhatCannotBeMovedIsNotPlanned) {
  Request request = three_nodes();
  request.containers = {container("c1", "n1", 6), container("c2", "n1", 6)};
  request.containers[0].cannot_move = "CRIU lacks a privilege";
  const Plan plan = planned(request);
  EXPECT_EQ(plan.steps.size(), 1U);
  ASSERT_EQ(plan.unplaced.size(), 1U);
  EXPECT_EQ(plan.unplaced[0].container, "c1");
  EXPECT_EQ(plan.unplaced[0].why, "CRIU lacks a privilege");
}

TEST(EvacuationPlan, RefusesWhatMakesNoSense) {
  Request request = three_nodes();
  request.evacuations.push_back({"n9", Reason::kFailing, {}});
  EXPECT_EQ(refused(request), "node to be evacuated: 'n9' is not known");
  request = three_nodes();
  request.nodes.push_back(node("n2"));
  EXPECT_EQ(refused(request), "node n2 is named twice");
  request = three_nodes();
  request.nodes[0].fabrics["eth"] = 0;
  EXPECT_EQ(refused(request), "node n1: no rate on fabric eth");
  request = three_nodes();
  request.under_way = {{"c7", "n2", "eth", 1}};
  EXPECT_EQ(refused(request), "migration of c7: there is no such container");
  request = three_nodes();
  request.settings.safety_factor = 0.9;
  EXPECT_EQ(refused(request), "the safety factor must be 1 or more");
}

// n1 fails; n2 is the better target by everything but its allocation.
TEST(EvacuationPlan, StaysOnTheNodesThatItsJobWasGiven) {
  for (const std::uint64_t gib : {64ULL, 2ULL}) {  // 2: targets are chosen by what fits, too
    Request request = three_nodes();
    request.nodes = {node("n1", 0, Health::kDegraded), node("n2", 64), node("n3", gib)};
    request.containers = {container("a", "n1", 1, "job"), container("b", "n3", 1, "job")};
    request.containers[0].allocation = {"n1", "n3", "of-nobody-here"};
    const Plan plan = planned(request);
    EXPECT_EQ(step_of(plan, "a").to, "n3");
    EXPECT_EQ(step_of(plan, "a").why.find("allocation"), std::string::npos);
  }
}

TEST(EvacuationPlan, LeavesTheAllocationOnlyWhenItMayAndMust) {
  Request request = three_nodes();
  request.nodes = {node("n1", 0, Health::kDegraded), node("n2", 64), node("n3", 1)};
  request.containers = {container("a", "n1", 1, "job"), container("b", "n1", 1, "job")};
  for (Container& one : request.containers) one.allocation = {"n1", "n3"};
  const Plan strict = planned(request);
  EXPECT_EQ(step_of(strict, "a").to, "n3");
  ASSERT_EQ(strict.unplaced.size(), 1U);
  EXPECT_NE(strict.unplaced[0].why.find("1 outside its job's allocation"), std::string::npos)
      << strict.unplaced[0].why;
  for (Container& one : request.containers) one.outside = {"n2"};
  const Plan loose = planned(request);
  EXPECT_TRUE(loose.unplaced.empty());
  const bool a_inside = step_of(loose, "a").to == "n3";
  EXPECT_EQ(step_of(loose, a_inside ? "a" : "b").to, "n3");
  const Step& outside = step_of(loose, a_inside ? "b" : "a");
  EXPECT_EQ(outside.to, "n2");
  EXPECT_NE(outside.why.find("outside its job's allocation"), std::string::npos) << outside.why;
}

}  // namespace
}  // namespace lifeboat::evacuation
