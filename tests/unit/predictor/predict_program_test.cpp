// lifeboat-predict as a user runs it: exit status, messages, what the JSON has.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>

#include "base/json.hpp"
#include "unit/predictor/tree.hpp"

namespace lifeboat::predictor {
namespace {

struct Outcome {
  int status = -1;
  std::string text;  // stdout and stderr
};

Outcome run(const std::string& arguments) {
  std::FILE* pipe = ::popen((std::string(LIFEBOAT_PREDICT " ") + arguments + " 2>&1").c_str(), "r");
  Outcome outcome;
  char chunk[4096];
  for (std::size_t n = 0; (n = std::fread(chunk, 1, sizeof chunk, pipe)) > 0;) {
    outcome.text.append(chunk, n);
  }
  outcome.status = WEXITSTATUS(::pclose(pipe));
  return outcome;
}

// Four nodes of an SMP system of which node 0 fails every other day, from day `from` to `to`.
std::string failures(int from, int to) {
  std::string text =
      "start,end,system,node,cause_class,cause,purpose,system_nodes,procs_per_node\n";
  for (int day = from; day < to; day += 2) {
    const int start = 1'000'000'000 + day * 86400;
    text += std::to_string(start) + "," + std::to_string(start + 3600) + ",18," +
            (day % 10 == 0 ? "1" : "0") + ",Hardware,CPU,,4,4\n";
  }
  return text;
}

class PredictProgram : public ::testing::Test {
 protected:
  PredictProgram() {
    tree_.write("/train.csv", failures(0, 120));
    tree_.write("/test.csv", failures(120, 200));
  }
  [[nodiscard]] std::string evaluate(const std::string& train = "/train.csv") const {
    return "evaluate --format lanl --train " + tree_.path(train) + " --test " +
           tree_.path("/test.csv") + " ";
  }

  Tree tree_;
};

TEST_F(PredictProgram, UsageIsTold) {
  EXPECT_EQ(run("").status, 2);
  EXPECT_EQ(run("guess").status, 2);
  for (const char* command : {"evaluate", "replay", "bench"}) {
    const Outcome help = run(std::string(command) + " --help");
    EXPECT_EQ(help.status, 0) << command;
    EXPECT_TRUE(help.text.starts_with("usage: lifeboat-predict " + std::string(command)));
  }
}

TEST_F(PredictProgram, WrongOptionsAreNamed) {
  const auto told = [&](const std::string& more) {
    const Outcome outcome = run(evaluate() + more);
    EXPECT_EQ(outcome.status, 2) << more;
    return outcome.text.substr(0, outcome.text.find('\n'));
  };
  EXPECT_EQ(told("--widow 7d"), "evaluate: unknown option '--widow'");
  EXPECT_EQ(told("--window"), "evaluate: --window: needs one value");
  EXPECT_EQ(told("--window 7"),
            "evaluate: --window: '7' is no duration such as 90s, 5min, 12h, 7d");
  EXPECT_EQ(told("--window 0s"), "evaluate: --window must be above 0");
  EXPECT_EQ(told("--strict -1"), "evaluate: --strict: '-1' is no number of at least 0");
  EXPECT_EQ(told("--json yes"), "evaluate: --json: takes no value");
  EXPECT_EQ(told("--label tickets x"), "evaluate: --label: expected 'reservations FILE'");
  EXPECT_EQ(run("evaluate --test x").text.substr(0, 29), "evaluate: --format is missing");
}

TEST_F(PredictProgram, WhatCannotBeDoneIsSaid) {
  const auto told = [](const std::string& arguments) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 1) << arguments;
    return outcome.text;
  };
  const std::string test = tree_.path("/test.csv");
  EXPECT_EQ(told("evaluate --format cray --test " + test),
            "evaluate: no format 'cray'; there are lanl, mira, alibaba, bgl, kmsg, replay\n");
  EXPECT_EQ(told("evaluate --format bgl --test " + test),
            "evaluate: " + test + ": no line is of the format bgl\n");
  EXPECT_EQ(told(evaluate("/nowhere.csv")),
            "evaluate: " + tree_.path("/nowhere.csv") + ": No such file or directory\n");
  EXPECT_EQ(told("replay --in /nowhere.log"), "replay: /nowhere.log: No such file or directory\n");
  EXPECT_EQ(told(evaluate() + "--nodes numa"), "evaluate: no nodes to score of 'numa'\n");
}

TEST_F(PredictProgram, JsonHasTheScores) {
  const Outcome outcome = run(evaluate() + "--json");
  ASSERT_EQ(outcome.status, 0) << outcome.text;
  const auto json = parse_object(outcome.text);
  ASSERT_TRUE(json.has_value()) << outcome.text;
  for (const char* key : {"precision", "recall", "f1", "lead_p10_s", "lead_p50_s", "lead_p90_s",
                          "false_alarms_per_node_month", "degraded_share", "saved_node_hours"}) {
    ASSERT_NE(json->if_contains(key), nullptr) << key;
    EXPECT_TRUE(json->at(key).is_number()) << key;
  }
  EXPECT_NEAR(json->at("failures").to_number<double>(), 40, 1);  // the last is the end of the test
  EXPECT_GT(json->at("recall").to_number<double>(), 0.5);  // node 0 cannot be missed
}

TEST_F(PredictProgram, SameInputGivesTheSameBytes) {
  EXPECT_EQ(run(evaluate() + "--json").text, run(evaluate() + "--json").text);
  EXPECT_EQ(run(evaluate()).text, run(evaluate()).text);
}

TEST_F(PredictProgram, TrainingThatKnowsTheFutureGainsNothing) {
  tree_.write("/oracle.csv", failures(0, 400));
  EXPECT_EQ(run(evaluate("/oracle.csv") + "--json").text, run(evaluate() + "--json").text);
}

TEST_F(PredictProgram, ReplayTellsOfAnAilingDimmOnce) {
  std::string log;
  for (int i = 1; i <= 12; ++i) {
    log += "3," + std::to_string(i) + "," + std::to_string(i * 600) +
           "000000,-;EDAC MC0: 1 CE memory read error on DIMM_A1 (page:0x5 row:0x7)\n";
  }
  tree_.write("/kmsg", log + "not a record\nneither\n");
  const Outcome outcome = run("replay --format kmsg --in " + tree_.path("/kmsg"));
  ASSERT_EQ(outcome.status, 0) << outcome.text;
  EXPECT_NE(outcome.text.find("node degraded: risk 0."), std::string::npos) << outcome.text;
  EXPECT_NE(outcome.text.find("mc0/DIMM_A1: 11 corrected memory errors in 24 h (limit 10)\n"),
            std::string::npos)
      << outcome.text;
  EXPECT_TRUE(outcome.text.ends_with("12 events, 1 nodes, 1 changes, 2 lines not of the format\n"))
      << outcome.text;
}

}  // namespace
}  // namespace lifeboat::predictor
