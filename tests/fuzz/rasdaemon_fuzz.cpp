// rasdaemon's database, damaged in any way: an error or events, never an end of the daemon. A row's
// columns may hold any type.
#include "predictor/sources/rasdaemon.hpp"

#include <sqlite3.h>

#include "fuzz.hpp"

namespace {

constexpr const char* kTable =
    "CREATE TABLE mc_event (id, timestamp, err_count, err_type, err_msg, label, mc, address, "
    "driver_detail);";

void add_row(sqlite3* database, FuzzedDataProvider& input) {
  sqlite3_stmt* row = nullptr;
  sqlite3_prepare_v2(database, "INSERT INTO mc_event VALUES (?,?,?,?,?,?,?,?,?)", -1, &row,
                     nullptr);
  for (int column = 1; column <= 9; ++column) {
    const std::string text = column == 2 && input.ConsumeBool()
                                 ? "2023-11-14 10:00:01 +0000"
                                 : input.ConsumeRandomLengthString(12);
    switch (input.ConsumeIntegralInRange(0, 4)) {
      case 0:
        sqlite3_bind_int64(row, column, input.ConsumeIntegral<std::int64_t>());
        break;
      case 1:
        sqlite3_bind_blob(row, column, text.data(), static_cast<int>(text.size()),
                          SQLITE_TRANSIENT);
        break;
      case 2:
        sqlite3_bind_null(row, column);
        break;
      default:
        sqlite3_bind_text(row, column, text.data(), static_cast<int>(text.size()),
                          SQLITE_TRANSIENT);
    }
  }
  sqlite3_step(row);
  sqlite3_finalize(row);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  using namespace lifeboat::predictor;
  const fuzz::Directory root;
  FuzzedDataProvider input(data, size);
  RasdaemonOptions options;
  const std::string path = root.path(options.database);
  root.write(options.database, "");
  sqlite3* database = nullptr;
  sqlite3_open(path.c_str(), &database);
  sqlite3_exec(database, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;", nullptr, nullptr,
               nullptr);
  sqlite3_exec(database, kTable, nullptr, nullptr, nullptr);
  const bool damage = input.ConsumeBool();
  while (!damage && input.remaining_bytes() > 0) add_row(database, input);
  sqlite3_close(database);
  if (damage) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    while (input.remaining_bytes() > 0) {
      file.seekp(input.ConsumeIntegralInRange(0, 8192));
      file << input.ConsumeRandomLengthString(16);
    }
  }
  RasdaemonSource source(Place{root.path(), "n1"}, options);
  source.restore(R"({"mc_event":-1})");
  const auto events = source.poll(Time{std::chrono::seconds(1'700'000'000)});
  fuzz::require_good(events);
  if (events) {
    for (const Event& event : *events) {
      fuzz::require(parse_replay_line(to_replay_line(event)).has_value(),
                    "an event comes back from its line");
    }
  }
  const std::string saved = source.save();
  source.restore(saved);
  fuzz::require(source.save() == saved, "where it stands is kept");
  return 0;
}
