#include "predictor/sources/rasdaemon.hpp"

#include <sqlite3.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/json.hpp"
#include "predictor/sources/kernel_text.hpp"

namespace lifeboat::predictor {
namespace {

using Database = std::unique_ptr<sqlite3, int (*)(sqlite3*)>;
using Statement = std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)>;

// One row, by the names of its columns.
class Row {
 public:
  explicit Row(sqlite3_stmt* statement) : statement_(statement) {}
  [[nodiscard]] std::string text(std::string_view column) const {
    const int at = index(column);
    const void* bytes = at < 0 ? nullptr : sqlite3_column_text(statement_, at);
    if (bytes == nullptr) return {};
    return {static_cast<const char*>(bytes),
            static_cast<std::size_t>(sqlite3_column_bytes(statement_, at))};
  }
  [[nodiscard]] std::int64_t number(std::string_view column) const {
    const int at = index(column);
    return at < 0 ? 0 : sqlite3_column_int64(statement_, at);
  }

 private:
  [[nodiscard]] int index(std::string_view column) const {
    for (int i = 0; i < sqlite3_column_count(statement_); ++i) {
      const char* name = sqlite3_column_name(statement_, i);
      if (name != nullptr && column == name) return i;
    }
    return -1;
  }
  sqlite3_stmt* statement_;
};

void add(Event& event, std::string_view name, const std::string& value) {
  if (!value.empty()) event.details.emplace_back(name, clean(value));
}

void memory_error(const Row& row, Event& event) {
  const std::string type = row.text("err_type");
  const std::string mc = "mc" + std::to_string(row.number("mc"));
  const std::string label = row.text("label");
  const bool corrected = type == "Corrected" || type == "Info" || type == "Deferred";
  event.kind = corrected ? EventKind::kCorrectedMemory : EventKind::kUncorrectedMemory;
  event.severity = corrected ? Severity::kWarning : Severity::kCritical;
  if (type == "Fatal") event.severity = Severity::kFatal;
  event.location = memory_location(mc, label);
  event.count =
      static_cast<std::uint64_t>(std::clamp<std::int64_t>(row.number("err_count"), 1, 1'000'000));
  event.text = type + " " + row.text("err_msg") + " on " + label;
  add(event, "mc", mc);
  add(event, "dimm", label);
  // 4 KiB pages, as the kernel's log counts them.
  constexpr int kPageShift = 12;
  if (const auto address = static_cast<std::uint64_t>(row.number("address")); address != 0) {
    char page[32];
    std::snprintf(page, sizeof page, "0x%llx",
                  static_cast<unsigned long long>(address >> kPageShift));
    add(event, "page", page);
  }
  add_memory_details(event, row.text("driver_detail"));
}

void bus_error(const Row& row, Event& event) {
  const std::string type = lower(row.text("err_type"));
  const bool correctable = type.starts_with("correct");
  const bool nonfatal = type.find("non-fatal") != std::string::npos;
  event.kind = EventKind::kBus;
  event.severity = correctable ? Severity::kWarning
                   : nonfatal  ? Severity::kError
                               : Severity::kCritical;
  event.location = clean(row.text("dev_name"));
  event.text = row.text("err_type") + " " + row.text("err_msg");
  add(event, "severity", correctable ? "correctable" : nonfatal ? "nonfatal" : "fatal");
}

void machine_check(const Row& row, Event& event) {
  const std::string status = lower(row.text("mcistatus_msg") + " " + row.text("error_msg"));
  const bool uncorrected = status.find("uncorrected") != std::string::npos;
  event.kind = EventKind::kProcessor;
  event.severity = uncorrected ? Severity::kCritical : Severity::kError;
  event.location = "cpu" + std::to_string(row.number("cpu"));
  event.text =
      row.text("bank_name") + " " + row.text("error_msg") + " " + row.text("mcistatus_msg");
  add(event, "bank", std::to_string(row.number("bank")));
}

void disk_error(const Row& row, Event& event) {
  event.kind = EventKind::kDisk;
  event.severity = Severity::kError;
  event.location = clean(row.text("dev"));
  event.text = row.text("error") + " " + row.text("rwbs") + " " + row.text("cmd");
  add(event, "sector", row.text("sector"));
}

void memory_failure(const Row& row, Event& event) {
  event.kind = EventKind::kUncorrectedMemory;
  event.severity = Severity::kCritical;
  event.text = "page given up: " + row.text("page_type") + ", " + row.text("action_result");
  add(event, "page", row.text("pfn"));
}

struct Table {
  const char* name;
  void (*fill)(const Row& row, Event& event);
};
constexpr std::array<Table, 5> kTables{{{"mc_event", memory_error},
                                        {"aer_event", bus_error},
                                        {"mce_record", machine_check},
                                        {"disk_errors", disk_error},
                                        {"memory_failure_event", memory_failure}}};

Result<Statement> prepare(sqlite3* database, const std::string& sql) {
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v2(database, sql.c_str(), -1, &raw, nullptr);
  Statement statement(raw, sqlite3_finalize);
  if (code == SQLITE_OK) return statement;
  const bool busy = code == SQLITE_BUSY || code == SQLITE_LOCKED;
  return fail(busy ? Errc::kUnavailable : Errc::kProtocol, sqlite3_errmsg(database));
}

// Whether there is a row; it is then at hand.
Result<bool> step(sqlite3* database, sqlite3_stmt* statement) {
  const int code = sqlite3_step(statement);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  const bool busy = code == SQLITE_BUSY || code == SQLITE_LOCKED;
  return fail(busy ? Errc::kUnavailable : Errc::kProtocol, sqlite3_errmsg(database));
}

// The highest id; nothing if there is no such table, 0 if it is empty.
Result<std::optional<std::int64_t>> highest_id(sqlite3* database, const std::string& table) {
  TRY(Statement known,
      prepare(database, "SELECT 1 FROM sqlite_master WHERE type='table' AND name='" + table + "'"));
  TRY(const bool there, step(database, known.get()));
  if (!there) return std::nullopt;
  TRY(Statement last, prepare(database, "SELECT max(id) FROM " + table));
  TRY(const bool row, step(database, last.get()));
  return row ? sqlite3_column_int64(last.get(), 0) : 0;
}

}  // namespace

std::optional<Time> rasdaemon_time(std::string_view text) {
  const std::string copy(text.substr(0, 64));
  tm parts{};
  const char* end = ::strptime(copy.c_str(), "%Y-%m-%d %H:%M:%S %z", &parts);
  if (end == nullptr || *end != '\0') return std::nullopt;
  const long offset = parts.tm_gmtoff;
  const time_t seconds = ::timegm(&parts) - offset;
  if (seconds < 0) return std::nullopt;
  return Time(std::chrono::seconds(seconds));
}

Status RasdaemonSource::read_table(sqlite3* database, const std::string& table, Time now,
                                   std::vector<Event>& events) {
  TRY(const auto highest, highest_id(database, table));
  if (!highest) return {};
  const auto [last, is_new] = last_.try_emplace(table, *highest);
  if (is_new) return {};
  const bool restarted = *highest < last->second;
  const std::int64_t from = restarted ? 0 : last->second;
  TRY(Statement rows, prepare(database, "SELECT * FROM " + table + " WHERE id > " +
                                            std::to_string(from) + " ORDER BY id LIMIT " +
                                            std::to_string(kRowsMax)));
  const auto fill = std::find_if(kTables.begin(), kTables.end(),
                                 [&](const Table& t) { return table == t.name; })->fill;
  std::int64_t read_to = from;
  std::vector<Event> found;
  for (;;) {
    TRY(const bool there, step(database, rows.get()));
    if (!there) break;
    const Row row(rows.get());
    read_to = std::max(read_to, row.number("id"));
    const auto time = rasdaemon_time(row.text("timestamp"));
    if (!time || (restarted && *time <= newest_)) continue;
    Event event;
    event.time = std::min(*time, now);
    event.node = place_.node;
    event.source = name();
    fill(row, event);
    event.text = clean(event.text);
    found.push_back(std::move(event));
  }
  last->second = read_to;
  for (Event& event : found) {
    newest_ = std::max(newest_, event.time);
    events.push_back(std::move(event));
  }
  return {};
}

Result<std::vector<Event>> RasdaemonSource::poll(Time now) {
  const std::string path = place_.path(options_.database);
  if (::access(path.c_str(), F_OK) != 0) return fail(Errc::kNotFound, "there is no " + path);
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &raw, SQLITE_OPEN_READONLY, nullptr);
  const Database database(raw, sqlite3_close);
  if (code != SQLITE_OK) return fail(Errc::kSystem, "open " + path + ": " + sqlite3_errstr(code));
  std::vector<Event> events;
  for (const Table& table : kTables) {
    if (auto read = read_table(database.get(), table.name, now, events); !read && events.empty()) {
      return tl::unexpected<Error>(read.error().context(path));
    }
  }
  std::stable_sort(events.begin(), events.end(),
                   [](const Event& a, const Event& b) { return a.time < b.time; });
  return events;
}

std::string RasdaemonSource::save() const {
  if (last_.empty()) return {};
  json::object ids;
  for (const auto& [table, id] : last_) ids[table] = id;
  return json::serialize(
      json::object{{"ids", std::move(ids)}, {"newest", newest_.time_since_epoch().count()}});
}

void RasdaemonSource::restore(const std::string& saved) {
  const auto object = parse_object(saved);
  if (!object) return;
  const auto ids = get_object(*object, "ids");
  const json::value* newest = object->if_contains("newest");
  if (!ids || newest == nullptr || !newest->is_int64()) return;
  newest_ = Time(Duration(newest->get_int64()));
  for (const Table& table : kTables) {
    const json::value* id = (*ids)->if_contains(table.name);
    if (id != nullptr && id->is_int64()) last_[table.name] = id->get_int64();
  }
}

}  // namespace lifeboat::predictor
