#include "journal.hpp"

#include <algorithm>
#include <chrono>

#include "base/log.hpp"
#include "events.hpp"

namespace lifeboat {

namespace {

constexpr std::size_t kFileBytesMax = 8 << 20;
constexpr std::size_t kMigrationsKept = 2000;
constexpr std::size_t kEventsKept = 200;  // of one migration

bool is_end(const std::string& phase) {
  return phase == to_string(Outcome::kCommitted) || phase == to_string(Outcome::kAborted);
}

// Empty: of a phase in between.
std::string_view event_of(const json::object& line, bool first, bool last, bool cancelled) {
  const std::string phase = string_or(line, "phase");
  const bool at_target = string_or(line, "side") == "target";
  if (phase == to_string(Outcome::kInDoubt)) return events::kMigrationInDoubt.name;
  if (last && phase == to_string(Outcome::kCommitted)) {
    return at_target ? events::kContainerArrived.name : events::kMigrationCommitted.name;
  }
  if (last && phase == to_string(Outcome::kAborted)) {
    return cancelled ? events::kMigrationAborted.name : events::kMigrationFailed.name;
  }
  return first && !at_target ? events::kMigrationStarted.name : std::string_view();
}

std::string timestamp_of(const json::object& line) {
  const json::value* const t = line.if_contains("t");
  if (t == nullptr || !t->is_int64()) return "";
  return timestamp(std::chrono::sys_time<std::chrono::microseconds>(std::chrono::microseconds(t->get_int64())));
}

JournalEntry entry_from(const json::object& line) {
  return {string_or(line, "id"),     string_or(line, "container"), string_or(line, "job"),
          string_or(line, "source"), string_or(line, "target"),    string_or(line, "side"),
          string_or(line, "phase"),  string_or(line, "reason"),    string_or(line, "fabric"),
          string_or(line, "mode")};
}

}  // namespace

JournalEntry journal_entry(const MigrationReport& report) {
  return {report.id,     report.container, report.job,   report.source,
          report.target, "source",         report.phase, "",
          report.fabric, to_string(report.mode)};
}

Status MigrationJournal::open(const std::string& path) {
  TRY(AppendLog log,
      AppendLog::open(path, kFileBytesMax, [this](json::object line) { remember(std::move(line)); }));
  if (log.unreadable() > 0) {
    log::warn("lines of the journal of migrations could not be read",
              {{"file", path}, {"lines", std::to_string(log.unreadable())}});
  }
  log_ = std::move(log);
  disk_.emplace();
  return {};
}

void MigrationJournal::remember(json::object line) {
  const std::string id = string_or(line, "id");
  if (id.empty()) return;
  const auto [at, is_new] = kept_.try_emplace(id);
  if (is_new) order_.push_back(id);
  Kept& kept = at->second;
  kept.last = entry_from(line);
  if (auto report = get_object(line, "report")) {
    kept.report = **report;
    line.erase("report");
  }
  if (kept.events.size() < kEventsKept || is_end(kept.last.phase)) kept.events.push_back(std::move(line));
  while (order_.size() > kMigrationsKept) {
    kept_.erase(order_.front());
    order_.pop_front();
  }
}

void MigrationJournal::add(const JournalEntry& entry, const std::optional<json::object>& report, bool sync) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  json::object line{{"t", std::chrono::duration_cast<std::chrono::microseconds>(now).count()},
                    {"id", entry.id},
                    {"container", entry.container},
                    {"job", entry.job},
                    {"source", entry.source},
                    {"target", entry.target},
                    {"side", entry.side},
                    {"phase", entry.phase}};
  const auto add_known = [&line](const char* key, const std::string& value) {
    if (!value.empty()) line[key] = value;
  };
  add_known("reason", entry.reason);
  add_known("fabric", entry.fabric);
  add_known("mode", entry.mode);
  if (report) line["report"] = *report;
  if (disk_) {
    const bool taken = disk_->post([this, line, sync] { write(line, sync); });
    if (!taken && !full_) log::error("the disk of the journal of migrations hangs: a restart will forget them");
    full_ = !taken;
  }
  remember(std::move(line));
}

void MigrationJournal::write(const json::object& line, bool sync) {
  auto kept = log_->append(line, sync);
  if (!kept && !failed_) {
    log::error("the journal of migrations cannot be written: a restart will forget them",
               {{"reason", kept.error().message}});
  }
  failed_ = !kept;
}

json::array MigrationJournal::history(const std::string& id) const {
  const auto at = kept_.find(id);
  return at == kept_.end() ? json::array{} : at->second.events;
}

std::optional<json::object> MigrationJournal::report(const std::string& id) const {
  const auto at = kept_.find(id);
  if (at == kept_.end()) return std::nullopt;
  const Kept& kept = at->second;
  const JournalEntry& last = kept.last;
  json::object out;
  if (kept.report) {
    out = *kept.report;
    // What came after it: what a person, or a restarted daemon, has found out.
    if (is_end(last.phase)) out["outcome"] = last.phase;
  } else {
    const bool over = is_end(last.phase);
    const json::object& first = kept.events.front().get_object();
    out = {{"id", last.id},
           {"container", last.container},
           {"job", last.job},
           {"source", last.source},
           {"target", last.target},
           {"fabric", string_or(first, "fabric")},
           {"mode", string_or(first, "mode")},
           {"started_at", timestamp_of(first)},
           {"phase", last.phase},
           {"outcome", over ? last.phase : "unknown"},
           {"error", last.reason}};
  }
  out["history"] = kept.events;
  return out;
}

std::vector<json::object> MigrationJournal::reports(std::size_t last) const {
  std::vector<json::object> all;
  for (auto id = order_.rbegin(); id != order_.rend() && all.size() < last; ++id) {
    if (kept_.at(*id).last.side != "source") continue;
    all.push_back(*report(*id));
    all.back().erase("history");
  }
  std::reverse(all.begin(), all.end());
  return all;
}

json::array MigrationJournal::events(std::int64_t since) const {
  json::array all;
  for (const auto& [id, kept] : kept_) {
    const bool cancelled = kept.report && flag(*kept.report, "cancelled");
    for (const json::value& item : kept.events) {
      const json::object& line = item.get_object();
      const auto t = static_cast<std::int64_t>(number_or(line, "t"));
      const std::string_view event =
          event_of(line, &item == &kept.events.front(), &item == &kept.events.back(), cancelled);
      if (event.empty() || t < since) continue;
      json::object out{{"t", t}, {"event", event}, {"migration", id}};
      for (const char* key : {"container", "source", "target", "side", "reason"}) out[key] = string_or(line, key);
      all.push_back(std::move(out));
    }
  }
  return all;
}

std::vector<JournalEntry> MigrationJournal::unfinished() const {
  std::vector<JournalEntry> open;
  for (const std::string& id : order_) {
    const JournalEntry& last = kept_.at(id).last;
    if (last.side == "source" && !is_end(last.phase)) open.push_back(last);
  }
  return open;
}

}  // namespace lifeboat
