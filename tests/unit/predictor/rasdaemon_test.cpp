#include "predictor/sources/rasdaemon.hpp"

#include <sqlite3.h>

#include "unit/predictor/tree.hpp"

namespace lifeboat::predictor {
namespace {

constexpr const char* kTables =
    "CREATE TABLE mc_event (id INTEGER PRIMARY KEY, timestamp TEXT, err_count INTEGER, err_type TEXT, "
    "err_msg TEXT, label TEXT, mc INTEGER, address INTEGER, driver_detail TEXT);"
    "CREATE TABLE aer_event (id INTEGER PRIMARY KEY, err_msg TEXT, timestamp TEXT, dev_name TEXT, "
    "err_type TEXT);";
constexpr const char* kOld =
    "INSERT INTO mc_event VALUES (1, '2023-11-14 10:00:01 +0000', 1, 'Corrected', 'memory read error', "
    "'DIMM_A1', 0, 134354690880, '');";
constexpr const char* kNew =
    "INSERT INTO mc_event VALUES (2, '2023-11-14 12:00:09 +0200', 3, 'Corrected', 'memory read error', "
    "'DIMM_A1', 0, 134354690880, 'rank:1 bg:2 ba:1 row:0x6a3b');"
    "INSERT INTO mc_event VALUES (3, '2023-11-14 10:20:00 +0000', 1, 'Uncorrected', 'read error', "
    "'DIMM_A1', 0, 0, '');"
    "INSERT INTO aer_event VALUES (1, 'Bad TLP', '2023-11-14 10:05:00 +0000', '0000:3b:00.0', "
    "'Corrected');";

class Rasdaemon : public ::testing::Test {
 protected:
  Rasdaemon() { tree.write(options.database, ""); }
  void sql(const std::string& text) {
    sqlite3* database = nullptr;
    sqlite3_open(tree.path(options.database).c_str(), &database);
    char* error = nullptr;
    sqlite3_exec(database, text.c_str(), nullptr, nullptr, &error);
    EXPECT_EQ(error, nullptr) << error;
    sqlite3_free(error);
    sqlite3_close(database);
  }
  RasdaemonSource source() { return {tree.place(), options}; }
  Tree tree;
  RasdaemonOptions options;
};

TEST_F(Rasdaemon, TellsRowsOnceInTheOrderOfTime) {
  sql(std::string(kTables) + kOld);
  RasdaemonSource before = source();
  EXPECT_TRUE(before.poll(kNow)->empty());
  sql(kNew);
  RasdaemonSource ras = source();
  ras.restore(before.save());
  const auto events = ras.poll(kNow);
  ASSERT_TRUE(events) << events.error().message;
  ASSERT_EQ(events->size(), 3u);
  EXPECT_EQ(events->at(0).kind, EventKind::kCorrectedMemory);
  EXPECT_EQ(events->at(0).count, 3u);
  EXPECT_EQ(events->at(0).location, "mc0/DIMM_A1");
  EXPECT_EQ(events->at(0).time, Time(std::chrono::seconds(1'699'956'009)));
  EXPECT_EQ(detail(events->at(0), "page"), "0x1f4829e");
  EXPECT_EQ(detail(events->at(0), "bank"), "2.1");
  EXPECT_EQ(events->at(1).kind, EventKind::kBus);
  EXPECT_EQ(events->at(1).severity, Severity::kWarning);
  EXPECT_EQ(events->at(2).kind, EventKind::kUncorrectedMemory);
  EXPECT_TRUE(ras.poll(kNow)->empty());
}

TEST_F(Rasdaemon, ReadsADatabaseThatBeganAnew) {
  sql(std::string(kTables) + kOld);
  RasdaemonSource ras = source();
  (void)ras.poll(kNow);
  sql(kNew);
  (void)ras.poll(kNow);
  sql("DELETE FROM mc_event");
  sql(kOld);  // older than what was told
  EXPECT_TRUE(ras.poll(kNow)->empty());
  sql("DELETE FROM mc_event");
  EXPECT_TRUE(ras.poll(kNow)->empty());
  sql("INSERT INTO mc_event VALUES (1, '2023-11-14 11:00:00 +0000', 1, 'Corrected', 'x', 'A', 0, 0, '')");
  EXPECT_EQ(ras.poll(kNow)->size(), 1u);
}

TEST_F(Rasdaemon, SkipsTablesAndColumnsThatAreNotThere) {
  sql("CREATE TABLE mc_event (id INTEGER PRIMARY KEY, timestamp TEXT, err_type TEXT)");
  RasdaemonSource ras = source();
  ASSERT_TRUE(ras.poll(kNow));
  sql("INSERT INTO mc_event VALUES (1, '2023-11-14 10:00:01 +0000', 'Corrected')");
  sql("INSERT INTO mc_event VALUES (2, 'yesterday', 'Uncorrected')");
  sql("INSERT INTO mc_event VALUES (3, NULL, NULL)");
  const auto events = ras.poll(kNow);
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ(events->at(0).count, 1u);
}

TEST_F(Rasdaemon, SaysThatADatabaseIsDamagedOrMissing) {
  sql(std::string(kTables) + kOld + kNew);
  std::filesystem::resize_file(tree.path(options.database), 5000);
  RasdaemonSource truncated = source();
  EXPECT_EQ(truncated.poll(kNow).error().code, Errc::kProtocol);
  tree.write(options.database, garbage(100'000));
  RasdaemonSource bad = source();
  const auto events = bad.poll(kNow);
  ASSERT_FALSE(events);
  EXPECT_EQ(error_of(events), tree.path(options.database) + ": file is not a database");
  std::filesystem::remove(tree.path(options.database));
  EXPECT_EQ(bad.poll(kNow).error().code, Errc::kNotFound);
}

TEST_F(Rasdaemon, ComesBackLaterWhenTheDatabaseIsLocked) {
  sql(std::string(kTables) + kOld);
  RasdaemonSource ras = source();
  ASSERT_TRUE(ras.poll(kNow));
  sql(kNew);
  sqlite3* writer = nullptr;
  sqlite3_open(tree.path(options.database).c_str(), &writer);
  sqlite3_exec(writer, "BEGIN EXCLUSIVE", nullptr, nullptr, nullptr);
  EXPECT_EQ(ras.poll(kNow).error().code, Errc::kUnavailable);
  sqlite3_exec(writer, "COMMIT", nullptr, nullptr, nullptr);
  sqlite3_close(writer);
  EXPECT_EQ(ras.poll(kNow)->size(), 3u);
}

}  // namespace
}  // namespace lifeboat::predictor
