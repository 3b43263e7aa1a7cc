// What is remembered of migrations, over restarts, torn lines and full files.
#include "journal.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/file.hpp"

namespace lifeboat {
namespace {

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/lifeboat-journal-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    path_ = directory_ + "/migrations.jsonl";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  static JournalEntry entry(const char* phase, const char* reason = "") {
    return {"n1-a", "hpl-0", "hpl", "n1", "n2", "source", phase, reason};
  }

  std::string directory_;
  std::string path_;
};

TEST_F(JournalTest, KeepsWhatHappenedOverARestart) {
  {
    MigrationJournal journal;
    ASSERT_TRUE(journal.open(path_));
    journal.note(entry("queued"));
    journal.note(entry("freeze"));
    journal.end(entry("aborted", "no room"),
                json::object{{"id", "n1-a"}, {"outcome", "aborted"}, {"total_ms", 7}});
  }
  MigrationJournal journal;
  ASSERT_TRUE(journal.open(path_));
  EXPECT_EQ(journal.history("n1-a").size(), 3U);
  EXPECT_TRUE(journal.unfinished().empty());
  ASSERT_EQ(journal.reports(10).size(), 1U);
  const json::object report = journal.report("n1-a").value();
  EXPECT_EQ(report.at("total_ms").to_number<int>(), 7);
  EXPECT_EQ(string_or(report.at("history").get_array().back().get_object(), "reason"), "no room");
  EXPECT_FALSE(journal.report("n1-b"));
}

// Its daemon was killed, and another one has found out.
TEST_F(JournalTest, OfOneWhoseEndNobodySawItTellsWhatItKnows) {
  JournalEntry begun = entry("queued");
  begun.fabric = "10g";
  begun.mode = "pre-copy";
  {
    MigrationJournal journal;
    ASSERT_TRUE(journal.open(path_));
    journal.note(begun);
  }
  MigrationJournal journal;
  ASSERT_TRUE(journal.open(path_));
  ASSERT_EQ(journal.unfinished().size(), 1U);
  JournalEntry end = journal.unfinished().front();
  end.phase = "committed";
  journal.end(end);
  const json::object report = journal.report("n1-a").value();
  EXPECT_EQ(string_or(report, "outcome"), "committed");
  EXPECT_EQ(string_or(report, "fabric"), "10g");
  EXPECT_EQ(string_or(report, "mode"), "pre-copy");
  EXPECT_EQ(string_or(report, "started_at").substr(0, 2), "20");  // lists are in the order of these
  EXPECT_FALSE(report.contains("downtime_ms"));
}

TEST_F(JournalTest, ALineThatWasCutOffIsAsIfNeverWritten) {
  {
    MigrationJournal journal;
    ASSERT_TRUE(journal.open(path_));
    journal.note(entry("queued"));
  }
  std::ofstream(path_, std::ios::app) << R"({"id":"n1-a","phase":"fre)";
  {
    MigrationJournal journal;
    ASSERT_TRUE(journal.open(path_));
    EXPECT_EQ(journal.history("n1-a").size(), 1U);
    ASSERT_EQ(journal.unfinished().size(), 1U);
    journal.end(entry("aborted"));
  }
  MigrationJournal journal;
  ASSERT_TRUE(journal.open(path_));
  EXPECT_EQ(journal.history("n1-a").size(), 2U) << "what follows it stands on a line of its own";
  EXPECT_TRUE(journal.unfinished().empty());
}

TEST_F(JournalTest, StaysWithinItsBounds) {
  constexpr std::size_t kMax = 10'000;
  const auto ignore = [](json::object) {};
  auto log = AppendLog::open(path_, kMax, ignore);
  ASSERT_TRUE(log);
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(log->append(json::object{{"number", i}}, false));
  EXPECT_LE(std::filesystem::file_size(path_), kMax);
  EXPECT_LE(std::filesystem::file_size(path_ + ".1"), kMax);
  std::vector<std::int64_t> numbers;
  ASSERT_TRUE(AppendLog::open(
      path_, kMax, [&](json::object line) { numbers.push_back(line.at("number").get_int64()); }));
  ASSERT_FALSE(numbers.empty());
  EXPECT_EQ(numbers.back(), 1999);
  for (std::size_t i = 1; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], numbers[i - 1] + 1);
}

TEST_F(JournalTest, AFileThatCannotBeWrittenIsAnErrorAtTheStart) {
  MigrationJournal journal;
  EXPECT_FALSE(journal.open(directory_ + "/no/such/file"));
}

TEST_F(JournalTest, EventsAreWhatSomebodyWaitsFor) {
  const auto told = [](const json::array& events) {
    std::string out;
    for (const json::value& item : events) {
      const json::object& event = item.as_object();
      out += string_or(event, "event") + " " + string_or(event, "migration") + " " + string_or(event, "reason") + "|";
    }
    return out;
  };
  MigrationJournal journal;
  ASSERT_TRUE(journal.open(path_));
  for (const char* phase : {"queued", "connect", "in-doubt", "committed"}) journal.note(entry(phase));
  journal.end(entry("committed"), json::object{{"id", "n1-a"}});
  JournalEntry other = entry("queued");
  other.id = "n1-b";
  journal.note(other);
  other.phase = "aborted";
  other.reason = "an operator";
  journal.end(other, json::object{{"id", "n1-b"}, {"cancelled", true}});
  JournalEntry arrival = entry("staged");
  arrival.id = "n3-c";
  arrival.side = "target";
  journal.note(arrival);
  EXPECT_EQ(told(journal.events(0)),
            "migration-started n1-a |migration-in-doubt n1-a |migration-committed n1-a |"
            "migration-started n1-b |migration-aborted n1-b an operator|");
  arrival.phase = "committed";
  journal.note(arrival);
  const auto later = journal.history("n3-c").back().as_object().at("t").to_number<std::int64_t>();
  EXPECT_EQ(told(journal.events(later)), "container-arrived n3-c |");
  EXPECT_EQ(told(journal.events(later + 1)), "");
}

}  // namespace
}  // namespace lifeboat
