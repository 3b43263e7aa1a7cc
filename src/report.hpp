// report.hpp - what a migration was and what it cost: one immutable record, as a log line for
// people and as JSON for programs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.hpp"

namespace lifeboat {

enum class Outcome {
  kRunning,    // not over yet
  kCommitted,  // runs at the target
  kAborted,    // runs at the source, as before
  kInDoubt,    // frozen at the source until the target can be asked
};

[[nodiscard]] const char* to_string(Outcome outcome);

// Milliseconds. Downtime is from the first step of the freeze to the target's word that the
// container runs; its parts add up to it.
struct MigrationTimes {
  double preflight = 0;  // connect, checks on both ends, target prepared: the container runs
  double freeze = 0;     // tasks stopped, port unplugged
  double dump = 0;       // CRIU has written its images (most of them are sent meanwhile)
  double transfer = 0;   // what was left to send after that
  double restore = 0;    // CRIU at the target, up to its hold
  double network = 0;    // plugged in and announced at the target
  double resume = 0;     // commit message, release of the tasks, answer
  double downtime = 0;
  double total = 0;  // from the request to the source being empty
};

struct MigrationReport {
  std::string id;
  std::string container;
  std::string job;
  std::string source;
  std::string target;
  std::string fabric;
  std::string mode = "stop-and-copy";
  std::string phase = "connect";  // the step it is in, or was in when it failed
  Outcome outcome = Outcome::kRunning;
  std::string error;  // why it was aborted
  std::string started_at;
  std::uint64_t resident_bytes = 0;  // memory of the container when it was frozen
  std::uint64_t bytes_sent = 0;
  std::vector<std::string> warnings;
  MigrationTimes times;
};

json::object to_json(const MigrationReport& report);

// UTC, "2026-01-31T12:00:00.123Z".
std::string timestamp_now();

}  // namespace lifeboat
