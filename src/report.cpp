#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

namespace lifeboat {
namespace {

json::array list(const std::vector<std::string>& lines) {
  json::array out;
  for (const std::string& line : lines) out.emplace_back(line);
  return out;
}

// Microseconds are below what these clocks and paths mean.
double rounded(double milliseconds) { return std::round(milliseconds * 1000) / 1000; }

}  // namespace

const char* to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::kRunning: return "running";
    case Outcome::kCommitted: return "committed";
    case Outcome::kAborted: return "aborted";
    case Outcome::kInDoubt: return "in-doubt";
  }
  return "unknown";
}

const char* to_string(MigrationMode mode) {
  switch (mode) {
    case MigrationMode::kPreCopy: return "pre-copy";
    case MigrationMode::kStopAndCopy: return "stop-and-copy";
  }
  return "unknown";
}

Result<MigrationMode> migration_mode_from(const std::string& name) {
  for (const MigrationMode mode : {MigrationMode::kPreCopy, MigrationMode::kStopAndCopy}) {
    if (name == to_string(mode)) return mode;
  }
  return fail(Errc::kInvalid, "no migration mode '" + name + "'; known: pre-copy, stop-and-copy");
}

namespace {

json::object memory_json(const MemoryReport& memory) {
  return {{"pages", memory.pages},
          {"pages_frozen", memory.pages_frozen},
          {"pages_untracked", memory.pages_untracked},
          {"pages_zero", memory.pages_zero},
          {"bytes_raw", memory.bytes_raw},
          {"survey_ms", rounded(memory.survey_ms)},
          {"send_ms", rounded(memory.send_ms)},
          {"criu_dump_ms", rounded(memory.criu_dump_ms)},
          {"untracked_reason", memory.untracked_reason}};
}

json::object layer_json(const LayerReport& layer) {
  return {{"files", layer.files},
          {"bytes_running", layer.bytes_running},
          {"bytes_frozen", layer.bytes_frozen},
          {"frozen_ms", rounded(layer.frozen_ms)}};
}

json::array rounds_json(const std::vector<RoundReport>& rounds) {
  json::array out;
  for (const RoundReport& round : rounds) {
    json::object entry = to_json(round.measured);
    entry["decision"] = to_json(round.decision);
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace

json::object to_json(const MigrationReport& report) {
  const MigrationTimes& times = report.times;
  json::object parts{{"freeze", rounded(times.freeze)},     {"dump", rounded(times.dump)},
                     {"transfer", rounded(times.transfer)}, {"restore", rounded(times.restore)},
                     {"network", rounded(times.network)},   {"resume", rounded(times.resume)}};
  return {{"id", report.id},
          {"container", report.container},
          {"job", report.job},
          {"source", report.source},
          {"target", report.target},
          {"fabric", report.fabric},
          {"mode", to_string(report.mode)},
          {"phase", report.phase},
          {"outcome", to_string(report.outcome)},
          {"error", report.error},
          {"started_at", report.started_at},
          {"resident_bytes", report.resident_bytes},
          {"bytes_sent", std::max(report.bytes_sent, report.progress->bytes_sent.load())},
          {"frozen_bytes", report.memory.bytes_frozen},
          {"round_pages", report.progress->pages_to_send.load()},
          {"round_pages_sent", report.progress->pages_sent.load()},
          {"memory", memory_json(report.memory)},
          {"layer", layer_json(report.layer)},
          {"rounds", rounds_json(report.rounds)},
          {"preflight_ms", rounded(times.preflight)},
          {"pre_copy_ms", rounded(times.pre_copy)},
          {"downtime_ms", rounded(times.downtime)},
          {"downtime_parts_ms", std::move(parts)},
          {"total_ms", rounded(times.total)},
          {"warnings", list(report.warnings)}};
}

std::string timestamp_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  char seconds[32];
  std::strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &parts);
  char text[48];
  std::snprintf(text, sizeof text, "%s.%03ldZ", seconds, now.tv_nsec / 1'000'000);
  return text;
}

}  // namespace lifeboat
