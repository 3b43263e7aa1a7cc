#include "report.hpp"

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
          {"mode", report.mode},
          {"phase", report.phase},
          {"outcome", to_string(report.outcome)},
          {"error", report.error},
          {"started_at", report.started_at},
          {"resident_bytes", report.resident_bytes},
          {"bytes_sent", report.bytes_sent},
          {"preflight_ms", rounded(times.preflight)},
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
