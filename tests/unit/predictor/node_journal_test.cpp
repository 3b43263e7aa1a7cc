#include "predictor/node_journal.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/file.hpp"

namespace lifeboat::predictor {
namespace {

const Time kNow = Time(Duration(1'700'000'000'123'456));

class NodeJournalTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/node_journal_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    path_ = directory_ + "/node-states.jsonl";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void add_text(const std::string& text) const { std::ofstream(path_, std::ios::app) << text; }
  [[nodiscard]] std::size_t lines() const {
    const std::string text = read_file(path_).value();
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  NodeJournal open() const { return NodeJournal::open(path_).value(); }

  std::string directory_;
  std::string path_;
};

NodeState degraded(const std::string& text) {
  NodeState state{StateTimes{}};
  SignalDetails details;
  details.text = text;
  details.evidence = {"12:00:01 mc0/dimm3 \"row 17\"", "12:00:02"};
  details.lead = std::chrono::minutes(20);
  details.risk = 0.25;
  state.apply(StateSignal::kVerdictDegraded, details, kNow);
  return state;
}

TEST_F(NodeJournalTest, KeepsStatesOverARestart) {
  const NodeState n1 = degraded("corrected errors");
  const NodeState n2 = degraded("disk");
  {
    NodeJournal journal = open();
    EXPECT_TRUE(journal.kept().empty());
    ASSERT_TRUE(journal.append("n1", "verdict-degraded", n1, kNow));
    ASSERT_TRUE(journal.append("n2", "verdict-degraded", n2, kNow));
  }
  const NodeJournal journal = open();
  EXPECT_EQ(journal.kept().at("n1"), n1.reasons());
  EXPECT_EQ(journal.kept().at("n2"), n2.reasons());
  EXPECT_EQ(journal.unreadable(), 0u);
}

TEST_F(NodeJournalTest, TheLastLineOfANodeCountsAndTheFileIsReducedAtStart) {
  NodeState state = degraded("first");
  {
    NodeJournal journal = open();
    ASSERT_TRUE(journal.append("n1", "verdict-degraded", state, kNow));
    state.apply(StateSignal::kDegrade, SignalDetails{"second"}, kNow);
    ASSERT_TRUE(journal.append("n1", "degrade", state, kNow));
    ASSERT_TRUE(journal.append("n2", "verdict-degraded", degraded("third"), kNow));
    ASSERT_TRUE(journal.append("n2", "restore", NodeState{StateTimes{}}, kNow));
    EXPECT_EQ(lines(), 4u);
  }
  const NodeJournal journal = open();
  EXPECT_EQ(journal.kept().at("n1"), state.reasons());
  EXPECT_TRUE(journal.kept().at("n2").empty());
  EXPECT_EQ(lines(), 1u) << "a node that is up needs no line";
}

TEST_F(NodeJournalTest, ALineThatWasCutOffIsAsIfNeverWritten) {
  {
    NodeJournal journal = open();
    ASSERT_TRUE(journal.append("n1", "verdict-degraded", degraded("whole"), kNow));
    ASSERT_TRUE(journal.append("n1", "degrade", degraded("cut off"), kNow));
  }
  const auto size = std::filesystem::file_size(path_);
  for (std::uintmax_t cut = 1; cut < 60; ++cut) {
    std::filesystem::resize_file(path_, size - cut);
    const std::string text = read_file(path_).value();
    const NodeJournal journal = open();
    ASSERT_EQ(journal.kept().at("n1").front().text, "whole") << cut;
    EXPECT_EQ(journal.unreadable(), 0u);
    ASSERT_TRUE(replace_file(path_, text));
  }
}

TEST_F(NodeJournalTest, LinesThatCannotBeReadAreCountedAndSkipped) {
  {
    NodeJournal journal = open();
    ASSERT_TRUE(journal.append("n1", "verdict-degraded", degraded("good"), kNow));
  }
  add_text("\n{}\nnot json\n{\"node\":\"n1\",\"reasons\":[{\"cause\":\"weather\"}]}\n");
  add_text(std::string("\0\xff\x01\n", 4));
  add_text("{\"node\":\"n1\",\"reasons\":[7]}\n");
  const NodeJournal journal = open();
  EXPECT_EQ(journal.unreadable(), 6u);
  EXPECT_EQ(journal.kept().at("n1").front().text, "good");
}

TEST_F(NodeJournalTest, WithoutItsDirectoryItSaysSoAndKeepsAllOnceItIsThere) {
  auto journal = NodeJournal::open(directory_ + "/none/node-states.jsonl");
  ASSERT_TRUE(journal);
  EXPECT_NE(journal->problem().find("/none/"), std::string::npos) << journal->problem();
  EXPECT_FALSE(journal->append("n1", "degrade", degraded("first"), kNow));
  std::filesystem::create_directory(directory_ + "/none");
  EXPECT_TRUE(journal->append("n2", "degrade", degraded("second"), kNow));
  const auto again = NodeJournal::open(directory_ + "/none/node-states.jsonl");
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->problem().empty());
  EXPECT_EQ(again->kept().at("n1").front().text, "first");
  EXPECT_EQ(again->kept().at("n2").front().text, "second");
}

TEST(Reason, OfAnotherVersionIsRefusedWithItsWord) {
  json::object object = to_json(degraded("x").reasons().front());
  object["cause"] = "weather";
  const auto reason = reason_from(object);
  ASSERT_FALSE(reason);
  EXPECT_NE(reason.error().message.find("'weather'"), std::string::npos) << reason.error().message;
}

}  // namespace
}  // namespace lifeboat::predictor
