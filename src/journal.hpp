// journal.hpp - what happened to migrations here, kept in state_dir/migrations.jsonl: for people who ask
// later, also after a restart. It decides nothing: that is what the registry is for.
//
//   {"t":microseconds since 1970,"id":...,"container":...,"job":...,"source":...,"target":...,
//    "side":"source"|"target","phase":...,"reason":...,"fabric":...,"mode":...,"report":{...} at the end}
//
// Phases are written as they come, an end is synced; both on a thread of its own, so that no disk holds up a
// container that is frozen or the daemon. Node states have their own (predictor/node_journal.hpp).
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/append_log.hpp"
#include "base/disk_thread.hpp"
#include "report.hpp"

namespace lifeboat {

struct JournalEntry {
  std::string id;
  std::string container;
  std::string job;
  std::string source;
  std::string target;
  std::string side;
  std::string phase;
  std::string reason;  // empty: none
  std::string fabric = {};  // and mode: as its source was asked; empty at the target
  std::string mode = {};
};
// Of a report, as its source sees it.
[[nodiscard]] JournalEntry journal_entry(const MigrationReport& report);

class MigrationJournal {
 public:
  // Reads what there is. kSystem: it cannot be used.
  Status open(const std::string& path);

  // Both return at once; failures are logged, once. `report`: of a migration that is over.
  void note(const JournalEntry& entry) { add(entry, std::nullopt, false); }
  void end(const JournalEntry& entry, const std::optional<json::object>& report = std::nullopt) {
    add(entry, report, true);
  }

  // What is known of a migration, oldest first; empty: nothing.
  [[nodiscard]] json::array history(const std::string& id) const;
  // The reports of the `last` that left this node, oldest first; of one whose end nobody here has seen, what is
  // known: no bytes and no times but that of its beginning.
  [[nodiscard]] std::vector<json::object> reports(std::size_t last) const;
  [[nodiscard]] std::optional<json::object> report(const std::string& id) const;
  // {"t","event","migration","container","source","target","side","reason"} for each that began, is in doubt,
  // came or is over, from `since` (microseconds since 1970) on, as src/events.hpp calls it; not in order.
  [[nodiscard]] json::array events(std::int64_t since) const;
  // Those that an earlier daemon of this node began and did not end.
  [[nodiscard]] std::vector<JournalEntry> unfinished() const;

 private:
  struct Kept {
    JournalEntry last;
    json::array events;
    std::optional<json::object> report;
  };
  void add(const JournalEntry& entry, const std::optional<json::object>& report, bool sync);
  void remember(json::object line);
  void write(const json::object& line, bool sync);

  std::map<std::string, Kept> kept_;
  std::deque<std::string> order_;
  bool full_ = false;  // more waited for the disk than may

  // Of the thread alone, once there is one.
  std::optional<AppendLog> log_;
  bool failed_ = false;
  std::optional<DiskThread> disk_;  // last: it ends before what it uses
};

}  // namespace lifeboat
