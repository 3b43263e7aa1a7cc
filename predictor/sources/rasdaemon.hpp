// rasdaemon.hpp - hardware errors that rasdaemon has recorded in its SQLite database: memory (with
// the place of each error), PCIe, machine checks, disks, and pages that the kernel gave up.
//
// The database is opened for reading at each poll and closed again, so that it may be replaced;
// columns are found by name, as versions of rasdaemon differ, and tables that a version does not
// have are skipped. Rows are read once, by their id. The first poll only notes the last ids: what
// is older has had its consequences. A database that begins anew is read from its start, but for
// rows older than the newest that was told.
#pragma once

#include <chrono>
#include <map>

#include "predictor/source.hpp"
#include "predictor/sources/text.hpp"

struct sqlite3;

namespace lifeboat::predictor {

struct RasdaemonOptions {
  std::chrono::milliseconds interval{10'000};
  std::string database = "/var/lib/rasdaemon/ras-mc_event.db";  // below the root
};

// "2026-01-05 10:00:01 +0000"; nothing if it is no such time.
[[nodiscard]] std::optional<Time> rasdaemon_time(std::string_view text);

class RasdaemonSource final : public Source {
 public:
  // Rows of a table in one poll.
  static constexpr int kRowsMax = 4096;

  RasdaemonSource(Place place, RasdaemonOptions options)
      : place_(std::move(place)), options_(std::move(options)) {}

  [[nodiscard]] std::string name() const override { return "rasdaemon"; }
  // kNotFound: no database. kUnavailable: rasdaemon keeps it locked. kProtocol: it is none, or
  // damaged.
  Result<std::vector<Event>> poll(Time now) override;
  [[nodiscard]] Duration interval() const override { return options_.interval; }
  [[nodiscard]] std::string save() const override;
  void restore(const std::string& saved) override;

 private:
  Status read_table(sqlite3* database, const std::string& table, Time now,
                    std::vector<Event>& events);

  Place place_;
  RasdaemonOptions options_;
  std::map<std::string, std::int64_t> last_;  // id by table
  Time newest_{};
};

}  // namespace lifeboat::predictor
