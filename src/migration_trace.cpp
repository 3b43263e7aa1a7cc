#include "migration_trace.hpp"

#include <algorithm>
#include <cmath>

namespace lifeboat {

namespace {

constexpr int kSource = 1;  // pid
constexpr int kTarget = 2;
constexpr int kPhases = 1;  // tid
constexpr int kRounds = 2;
constexpr int kDowntime = 3;

struct Phase {
  std::string name;
  std::string reason;
  double at_us = 0;
};

class Trace {
 public:
  void name_process(int pid, const std::string& name) { meta("process_name", pid, 0, name); }
  void name_row(int pid, int tid, const std::string& name) { meta("thread_name", pid, tid, name); }
  void span(int pid, int tid, const std::string& name, double from_us, double to_us, json::object args = {}) {
    json::object event{{"name", name}, {"ph", "X"}, {"pid", pid}, {"tid", tid}};
    event["ts"] = std::round(from_us);
    event["dur"] = std::round(std::max(0.0, to_us - from_us));
    event["args"] = std::move(args);
    events_.push_back(std::move(event));
  }
  // A moment of the whole process.
  void moment(int pid, const std::string& name, double at_us, json::object args) {
    json::object event{{"name", name}, {"ph", "i"}, {"s", "p"}, {"pid", pid}, {"tid", kPhases}};
    event["ts"] = std::round(at_us);
    event["args"] = std::move(args);
    events_.push_back(std::move(event));
  }
  json::array take() && { return std::move(events_); }

 private:
  void meta(const char* what, int pid, int tid, const std::string& name) {
    json::object args{{"name", name}};
    events_.push_back(json::object{{"name", what}, {"ph", "M"}, {"pid", pid}, {"tid", tid}, {"args", std::move(args)}});
  }
  json::array events_;
};

// As its source saw it, or whoever has kept something of it.
std::vector<Phase> phases_of(const json::object& report) {
  std::vector<Phase> phases;
  auto history = get_array(report, "history");
  if (!history) return phases;
  for (const json::value& item : **history) {
    if (!item.is_object()) continue;
    const json::object& entry = item.get_object();
    Phase phase{string_or(entry, "phase"), string_or(entry, "reason"), number_or(entry, "t")};
    if (!phase.name.empty() && phase.at_us > 0) phases.push_back(std::move(phase));
  }
  if (phases.empty()) return phases;
  const double start = phases.front().at_us;
  for (Phase& phase : phases) phase.at_us -= start;
  return phases;
}

const Phase* last_of(const std::vector<Phase>& phases, std::string_view name) {
  const auto at = std::find_if(phases.rbegin(), phases.rend(), [&](const Phase& p) { return p.name == name; });
  return at == phases.rend() ? nullptr : &*at;
}

void add_phases(Trace& trace, const std::vector<Phase>& phases) {
  for (std::size_t i = 0; i + 1 < phases.size(); ++i) {
    trace.span(kSource, kPhases, phases[i].name, phases[i].at_us, phases[i + 1].at_us);
  }
  const Phase& last = phases.back();
  trace.moment(kSource, last.name, last.at_us, {{"reason", last.reason}});
}

void add_rounds(Trace& trace, const json::object& report, const std::vector<Phase>& phases) {
  auto rounds = get_array(report, "rounds");
  const Phase* const begin = last_of(phases, "pre-copy");
  if (!rounds || (*rounds)->empty() || begin == nullptr) return;
  trace.name_row(kSource, kRounds, "rounds");
  double first_s = -1;  // on the rounds' own clock
  for (const json::value& item : **rounds) {
    if (!item.is_object()) continue;
    const json::object& round = item.get_object();
    const double started_s = number_or(round, "started_s");
    if (first_s < 0) first_s = started_s;
    const double from_us = begin->at_us + (started_s - first_s) * 1e6;
    const double took_us = (number_or(round, "scan_s") + number_or(round, "send_s")) * 1e6;
    json::object args;
    for (const char* key : {"pages_found", "pages_sent", "pages_resent", "pages_held_back", "bytes_on_wire",
                            "pages_dirty_after"}) {
      args[key] = number_or(round, key);
    }
    if (auto decision = get_object(round, "decision")) args["decision"] = string_or(**decision, "reason");
    const int number = static_cast<int>(number_or(round, "round"));
    trace.span(kSource, kRounds, "round " + std::to_string(number), from_us, from_us + took_us, std::move(args));
  }
}

// The parts follow each other and add up to it; the last three are the target's work.
void add_downtime(Trace& trace, const json::object& report, const std::vector<Phase>& phases) {
  const double downtime_us = number_or(report, "downtime_ms") * 1000;
  const Phase* const begin = last_of(phases, "freeze");
  auto parts = get_object(report, "downtime_parts_ms");
  if (downtime_us <= 0 || begin == nullptr || !parts) return;
  trace.name_row(kSource, kDowntime, "downtime");
  trace.span(kSource, kDowntime, "frozen", begin->at_us, begin->at_us + downtime_us,
             {{"frozen_bytes", number_or(report, "frozen_bytes")}});
  trace.name_row(kTarget, kDowntime, "downtime");
  double at_us = begin->at_us;
  for (const char* part : {"freeze", "dump", "transfer", "restore", "network", "resume"}) {
    const double took_us = number_or(**parts, part) * 1000;
    const bool at_target = part == std::string_view("restore") || part == std::string_view("network") ||
                           part == std::string_view("resume");
    if (took_us > 0) trace.span(at_target ? kTarget : kSource, kDowntime, part, at_us, at_us + took_us);
    at_us += std::max(0.0, took_us);
  }
}

}  // namespace

Result<json::object> trace_of(const json::object& report) {
  const std::vector<Phase> phases = phases_of(report);
  if (phases.empty()) {
    return fail(Errc::kNotFound, "no phase of migration '" + string_or(report, "id") + "' is known here");
  }
  Trace trace;
  trace.name_process(kSource, string_or(report, "source") + " (source)");
  trace.name_process(kTarget, string_or(report, "target") + " (target)");
  trace.name_row(kSource, kPhases, "phases");
  add_phases(trace, phases);
  add_rounds(trace, report, phases);
  add_downtime(trace, report, phases);
  json::object about;
  for (const char* key : {"id", "container", "job", "source", "target", "fabric", "mode", "outcome", "error",
                          "started_at"}) {
    about[key] = string_or(report, key);
  }
  for (const char* key : {"downtime_ms", "total_ms", "bytes_sent", "resident_bytes"}) {
    about[key] = number_or(report, key);
  }
  return json::object{{"traceEvents", std::move(trace).take()},
                      {"displayTimeUnit", "ms"},
                      {"otherData", std::move(about)}};
}

}  // namespace lifeboat
