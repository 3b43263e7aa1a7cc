// A plan of evacuation as people and programs see it.
#include "evacuation_report.hpp"

#include <gtest/gtest.h>

namespace lifeboat::evacuation {
namespace {

Plan small_plan() {
  Plan plan;
  Step step;
  step.container = "c1";
  step.from = "n1";
  step.to = "n2";
  step.fabric = "eth";
  step.duration_s = 4.4;
  step.downtime_s = 0.1;
  step.why = "1 of 1 of its node";
  plan.steps = {step};
  step.container = "c3";
  step.mode = Mode::kStopAndCopy;
  step.start_s = 4.4;
  step.after = 1;
  plan.steps.push_back(step);
  NodeForecast node;
  node.node = "n1";
  node.lead_s = 600;
  node.leaving = 3;
  node.unplaced = 1;
  node.in_time = 2;
  node.end_s = 8.8;
  plan.nodes = {node};
  plan.unplaced = {{"c2", "n1", "there is no healthy node to go to"}};
  plan.cancel = {{"c4", "n3", "node n3 is degraded now"}};
  plan.jobs = 2;
  plan.jobs_saved = 1;
  plan.why = "longest first";
  return plan;
}

TEST(EvacuationReport, ATableForPeople) {
  EXPECT_EQ(
      to_text(small_plan()),
      "step  container  from -> to  fabric  mode           start            takes  downtime  why\n"
      "1     c1         n1 -> n2    eth     pre-copy       0 ms             4.4 s  100 ms    "
      "1 of 1 of its node\n"
      "2     c3         n1 -> n2    eth     stop-and-copy  4.4 s (after 1)  4.4 s  100 ms    "
      "1 of 1 of its node\n"
      "longest first\n"
      "\n"
      "node  because  lead     leaving  empty after  start by  verdict\n"
      "n1    failing  600.0 s  3        8.8 s        now       1 stay\n"
      "jobs on failing nodes that get away in time: 1 of 2\n"
      "STAYS: c2 on n1: there is no healthy node to go to\n"
      "CANCEL: c4 on its way to n3: node n3 is degraded now\n");
}

TEST(EvacuationReport, NothingToMove) {
  EXPECT_EQ(to_text(Plan{}), "nothing to move\n");
}

TEST(EvacuationReport, JsonHasTheSameNumbers) {
  const json::object object = to_json(small_plan());
  const json::object& step = object.at("steps").as_array().at(1).as_object();
  EXPECT_EQ(step.at("step").to_number<unsigned>(), 2U);
  EXPECT_EQ(step.at("after").to_number<unsigned>(), 1U);
  EXPECT_EQ(step.at("mode").as_string(), "stop-and-copy");
  EXPECT_EQ(step.at("duration_s").as_double(), 4.4);
  const json::object& node = object.at("nodes").as_array().at(0).as_object();
  EXPECT_EQ(node.at("fits").as_bool(), false);
  EXPECT_EQ(node.at("lead_s").as_double(), 600);
  EXPECT_EQ(object.at("unplaced").as_array().at(0).as_object().at("container").as_string(), "c2");
}

}  // namespace
}  // namespace lifeboat::evacuation
