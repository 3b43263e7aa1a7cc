// What Slurm's commands print (as 22.05 does), and what follows from it.
#include "slurm/text.hpp"

#include <gtest/gtest.h>

namespace lifeboat::slurm {
namespace {

using predictor::NodeState;
using predictor::SignalDetails;
using predictor::StateSignal;

const Owner kOwner{"demo", "n2"};
constexpr predictor::Time kSince{std::chrono::seconds(1764160000)};
constexpr char kOurs[] = "lifeboat: a fan is loud [demo/n2/1764160000]";

std::string node_text(const std::string& state, const std::string& reason) {
  return "NodeName=n2 Arch=x86_64 CoresPerSocket=1 \n   CPUAlloc=0 CPUTot=2 CPULoad=0.40\n"
         "   NodeAddr=10.2.0.12 NodeHostName=n2 Version=22.05.8\n   State=" + state +
         " ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A\n   Partitions=lab \n" +
         (reason.empty() ? "" : "   Reason=" + reason + " [root@2026-11-26T12:32:34]\n") + "\n";
}

NodeShown shown(const std::string& state, const std::string& reason = "") {
  auto node = node_from(node_text(state, reason));
  EXPECT_TRUE(node) << node.error().message;
  return node.value_or(NodeShown{});
}

NodeState state_after(std::initializer_list<StateSignal> signals) {
  NodeState state{predictor::StateTimes{}};
  SignalDetails details;
  details.text = "a fan is loud";
  for (const StateSignal signal : signals) state.apply(signal, details, kSince);
  return state;
}

TEST(SlurmNode, StatesAndReasons) {
  EXPECT_FALSE(shown("IDLE").fail || shown("IDLE").drain || shown("IDLE").down);
  EXPECT_TRUE(shown("IDLE+FAIL").fail);
  EXPECT_TRUE(shown("MIXED+DRAIN").drain);
  EXPECT_TRUE(shown("ALLOCATED*+FAILING").fail);
  const NodeShown dead = shown("DOWN*+FAIL+NOT_RESPONDING", kOurs);
  EXPECT_TRUE(dead.down && dead.fail && !dead.drain);
  EXPECT_EQ(dead.reason, kOurs);
  EXPECT_EQ(shown("IDLE+FAIL", "lifeboat: Reason=x State=y").reason, "lifeboat: Reason=x State=y");
  EXPECT_EQ(node_from("Node n9 not found").error().code, Errc::kProtocol);
  EXPECT_EQ(node_from("").error().code, Errc::kProtocol);
  EXPECT_EQ(node_from("State=").error().code, Errc::kProtocol);
}

TEST(SlurmNode, OursAreThisNodesOnly) {
  EXPECT_TRUE(is_ours(kOurs, kOwner));
  for (const char* other : {"", "lifeboat: ", "a fan is loud", "lifeboat: written by hand",
                            "lifeboat: x [other/n2/1764160000]", "lifeboat: x [demo/n3/1764160000]",
                            "lifeboat: x [demo/n2/]", "lifeboat: x [demo/n2/12] and more",
                            "lifeboat: x [demo/n2/1a]", "not lifeboat: x [demo/n2/12]"}) {
    EXPECT_FALSE(is_ours(other, kOwner)) << other;
  }
}

TEST(SlurmNode, WhatIsExpectedFailsAndWhatAnOperatorSaysDrains) {
  EXPECT_EQ(wanted_for(state_after({}), kOwner).state, NodeWish::kNothing);
  EXPECT_EQ(wanted_for(state_after({StateSignal::kDegrade}), kOwner).state, NodeWish::kDrain);
  EXPECT_EQ(wanted_for(state_after({StateSignal::kMaintenance}), kOwner).state, NodeWish::kDrain);
  EXPECT_EQ(wanted_for(state_after({StateSignal::kVerdictDegraded}), kOwner).state, NodeWish::kFail);
  EXPECT_EQ(wanted_for(state_after({StateSignal::kVerdictDown}), kOwner).state, NodeWish::kFail);
  EXPECT_EQ(wanted_for(state_after({StateSignal::kHeartbeatBack}), kOwner).state, NodeWish::kFail);
  const NodeWanted both = wanted_for(state_after({StateSignal::kMaintenance, StateSignal::kVerdictDegraded}), kOwner);
  EXPECT_EQ(both.state, NodeWish::kFail);
  EXPECT_EQ(both.reason, kOurs);
  EXPECT_TRUE(is_ours(both.reason, kOwner));
}

TEST(SlurmNode, ReasonsAreOneShortLine) {
  NodeState state{predictor::StateTimes{}};
  SignalDetails details;
  details.text = "\"12\" errors\n" + std::string(147, 'x') + "\u00e4\u00e4";  // cut within the first of these
  state.apply(StateSignal::kDegrade, details, kSince);
  EXPECT_EQ(wanted_for(state, kOwner).reason,
            "lifeboat:  12  errors " + std::string(147, 'x') + " [demo/n2/1764160000]");
}

TEST(SlurmNode, NextStep) {
  const NodeWanted up;
  const NodeWanted fail{NodeWish::kFail, kOurs};
  const NodeWanted drain{NodeWish::kDrain, kOurs};
  const std::string older = "lifeboat: something else [demo/n2/1764150000]";
  // Up: what is ours goes, what is not stays.
  EXPECT_EQ(next_step(up, shown("IDLE"), kOwner), NodeStep::kNothing);
  EXPECT_EQ(next_step(up, shown("IDLE+FAIL", kOurs), kOwner), NodeStep::kClear);
  EXPECT_EQ(next_step(up, shown("ALLOCATED+DRAIN", older), kOwner), NodeStep::kClear);
  EXPECT_EQ(next_step(up, shown("IDLE+DRAIN", "bad disk"), kOwner), NodeStep::kNothing);
  EXPECT_EQ(next_step(up, shown("DOWN", kOurs), kOwner), NodeStep::kNothing);
  // Not up.
  EXPECT_EQ(next_step(fail, shown("IDLE"), kOwner), NodeStep::kSet);
  EXPECT_EQ(next_step(fail, shown("IDLE+FAIL", kOurs), kOwner), NodeStep::kNothing);
  EXPECT_EQ(next_step(fail, shown("IDLE+FAIL", older), kOwner), NodeStep::kSet);
  EXPECT_EQ(next_step(fail, shown("IDLE+DRAIN", kOurs), kOwner), NodeStep::kSet);
  EXPECT_EQ(next_step(drain, shown("MIXED+DRAIN", kOurs), kOwner), NodeStep::kNothing);
  for (const char* closed : {"IDLE+DRAIN", "IDLE+FAIL", "DOWN*"}) {
    EXPECT_EQ(next_step(fail, shown(closed, "bad disk"), kOwner), NodeStep::kForeign) << closed;
    EXPECT_EQ(next_step(fail, shown(closed), kOwner), NodeStep::kForeign) << closed;
  }
  EXPECT_EQ(next_step(fail, shown("IDLE", "left over"), kOwner), NodeStep::kSet);
}

TEST(SlurmJobs, Listed) {
  const auto jobs = jobs_from("7|RUNNING|n[1,3]\n8|PENDING|\n9|NODE_FAIL|n4\n10|COMPLETING|n5\n11|SUSPENDED|n6\n");
  ASSERT_TRUE(jobs) << jobs.error().message;
  ASSERT_EQ(jobs->size(), 5U);
  EXPECT_EQ(jobs->at(0).id, 7U);
  EXPECT_EQ(jobs->at(0).nodes, "n[1,3]");
  const std::vector<bool> has{jobs->at(0).has_nodes, jobs->at(1).has_nodes, jobs->at(2).has_nodes,
                              jobs->at(3).has_nodes, jobs->at(4).has_nodes};
  EXPECT_EQ(has, (std::vector<bool>{true, false, false, false, true}));
  EXPECT_TRUE(jobs_from("")->empty());
  for (const char* bad : {"x|RUNNING|n1", "7|RUNNING", "7|RUNNING|n1|n2", "slurm_load_jobs error", "|RUNNING|n1"}) {
    EXPECT_EQ(jobs_from(bad).error().code, Errc::kProtocol) << bad;
  }
}

TEST(SlurmNodes, IdleAndClosedByOthers) {
  const auto nodes = nodes_from("n1|idle|none\nn2|failing|" + std::string(kOurs) + "\nn3|drained|bad | disk\n"
                                "n4|down*|Not responding\nn5|mixed|none\nn6|idle*|none\nn3|drained|bad | disk\n"
                                "n7|fail|" + std::string(kOurs) + "\n", "demo");
  ASSERT_TRUE(nodes) << nodes.error().message;
  EXPECT_EQ(nodes->idle, std::set<std::string>{"n1"});
  EXPECT_EQ(nodes->closed, (std::set<std::string>{"n3", "n4", "n7"})) << "of n2 it is n2's word, of n7 not n7's";
  for (const char* bad : {"n1 idle none", "n1|idle", "|idle|none"}) {
    EXPECT_EQ(nodes_from(bad, "demo").error().code, Errc::kProtocol) << bad;
  }
  EXPECT_TRUE(nodes_from("", "demo")->closed.empty());
}

TEST(SlurmJobs, WarnsOfWhatEndsThemWithANode) {
  JobEnvironment job;
  EXPECT_TRUE(warnings_for(job, "").empty()) << "not in Slurm";
  job.job_id = "7";
  ASSERT_EQ(warnings_for(job, "#!/bin/sh\nlifeboat run x\n").size(), 1U);
  EXPECT_NE(warnings_for(job, "").at(0).find("'#SBATCH --no-kill'"), std::string::npos);
  EXPECT_TRUE(warnings_for(job, "#!/bin/sh\n#SBATCH -N 3 --no-kill\nlifeboat run x\n").empty());
  EXPECT_TRUE(warnings_for(job, "#!/bin/sh\n# three\n#SBATCH -k\n").empty());
  EXPECT_EQ(warnings_for(job, "#!/bin/sh\nlifeboat run x\n#SBATCH --no-kill\n").size(), 1U) << "Slurm reads no further";
  EXPECT_EQ(warnings_for(job, "#!/bin/sh\n##SBATCH --no-kill\n").size(), 1U);
  job.no_kill = true;
  EXPECT_TRUE(warnings_for(job, "").empty());
  job.step_nodes = "1";
  EXPECT_TRUE(warnings_for(job, "").empty());
  job.step_nodes = "3";
  ASSERT_EQ(warnings_for(job, "").size(), 1U);
  EXPECT_NE(warnings_for(job, "").at(0).find("srun -k"), std::string::npos);
}

}  // namespace
}  // namespace lifeboat::slurm
