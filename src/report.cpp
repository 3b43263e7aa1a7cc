#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "criu_glue/memory.hpp"

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
    case MigrationMode::kPostCopy: return "post-copy";
    case MigrationMode::kHybrid: return "hybrid";
    case MigrationMode::kCriuImages: return "criu-images";
  }
  return "unknown";
}

Result<MigrationMode> migration_mode_from(const std::string& name) {
  std::string known;
  for (const MigrationMode mode : kMigrationModes) {
    if (name == to_string(mode)) return mode;
    known += (known.empty() ? "" : ", ") + std::string(to_string(mode));
  }
  return fail(Errc::kInvalid, "no migration mode '" + name + "'; known: " + known);
}

namespace {

json::object memory_json(const MemoryReport& memory) {
  return {{"pages", memory.pages},
          {"pages_frozen", memory.pages_frozen},
          {"pages_untracked", memory.pages_untracked},
          {"pages_zero", memory.pages_zero},
          {"pages_later", memory.pages_later},
          {"pages_wanted", memory.pages_wanted},
          {"pages_duplicate", memory.pages_duplicate},
          {"pages_compressed", memory.pages_compressed},
          {"bytes_raw", memory.bytes_raw},
          {"bytes_on_wire", memory.bytes_on_wire},
          {"survey_ms", rounded(memory.survey_ms)},
          {"send_ms", rounded(memory.send_ms)},
          {"criu_dump_ms", rounded(memory.criu_dump_ms)},
          {"untracked_reason", memory.untracked_reason}};
}

json::object images_json(const ImageReport& images) {
  return {{"bytes", images.bytes},
          {"known_bytes", images.known_bytes},
          {"ahead_bytes", images.ahead_bytes},
          {"passes", images.passes},
          {"ahead_ms", rounded(images.ahead_ms)}};
}

json::object layer_json(const LayerReport& layer) {
  return {{"files", layer.files},
          {"bytes_running", layer.bytes_running},
          {"bytes_frozen", layer.bytes_frozen},
          {"frozen_ms", rounded(layer.frozen_ms)},
          {"bytes_tracked", layer.bytes_tracked}};
}

json::array rounds_json(const std::vector<RoundReport>& rounds) {
  json::array out;
  for (const RoundReport& round : rounds) {
    json::object entry = to_json(round.measured);
    entry["went_first"] = round.went_first;
    entry["decision"] = to_json(round.decision);
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace

Progress progress_of(const MigrationReport& report) {
  ProgressState state;
  state.phase = report.phase;
  state.over = report.outcome == Outcome::kCommitted || report.outcome == Outcome::kAborted;
  state.live = report.mode != MigrationMode::kStopAndCopy && report.mode != MigrationMode::kCriuImages;
  state.memory_bytes = report.resident_bytes;
  state.sent_bytes = report.progress->bytes_sent.total();
  state.round_bytes = report.progress->pages_to_send * kPageBytes;
  state.round_sent_bytes = report.progress->pages_sent * kPageBytes;
  state.ahead_bytes = report.ahead_bytes;
  state.rate_bytes_per_s = report.rate.bytes_per_s();
  state.nominal_bytes_per_s = report.nominal_bytes_per_s;
  state.fixed_ms = report.fixed_ms;
  state.stopped_ms = report.stopped_ms;
  if (!report.rounds.empty()) {
    const PrecopyDecision& decision = report.rounds.back().decision;
    state.dirty_bytes_per_s = decision.dirty_bytes_per_s;
    state.send_bytes_per_s = decision.send_bytes_per_s;
    state.rest_s = decision.expected_downtime_s;
  }
  return estimate(state);
}

namespace {

// Members of the report while it is under way; null: not known.
void add_progress(json::object& out, const MigrationReport& report) {
  const Progress progress = progress_of(report);
  const auto known = [](double value) { return value < 0 ? json::value() : json::value(rounded(value)); };
  out["queue_position"] = report.queue_position;
  out["waiting_for"] = report.waiting_for;
  out["remaining_bytes"] = progress.remaining_bytes;
  out["rate_bytes_per_s"] = std::round(progress.rate_bytes_per_s);
  out["dirty_bytes_per_s"] = std::round(progress.dirty_bytes_per_s);
  out["eta_s"] = known(progress.eta_s);
  out["expected_downtime_ms"] = known(progress.expected_downtime_ms);
}

}  // namespace

json::object to_json(const MigrationReport& report) {
  const MigrationTimes& times = report.times;
  json::object parts{{"freeze", rounded(times.freeze)},     {"dump", rounded(times.dump)},
                     {"transfer", rounded(times.transfer)}, {"restore", rounded(times.restore)},
                     {"network", rounded(times.network)},   {"resume", rounded(times.resume)}};
  json::object held{{"frames", report.hold.frames},
                    {"bytes", report.hold.bytes},
                    {"delivered", report.hold.delivered},
                    {"dropped", report.hold.dropped}};
  json::object out{{"id", report.id},
          {"container", report.container},
          {"job", report.job},
          {"source", report.source},
          {"target", report.target},
          {"fabric", report.fabric},
          {"mode", to_string(report.mode)},
          {"phase", report.phase},
          {"outcome", to_string(report.outcome)},
          {"error", report.error},
          {"cancelled", report.cancellation.requested()},
          {"started_at", report.started_at},
          {"resident_bytes", report.resident_bytes},
          {"bytes_sent", std::max(report.bytes_sent, report.progress->bytes_sent.total())},
          {"frozen_bytes", report.memory.bytes_frozen},
          {"round_pages", report.progress->pages_to_send.load()},
          {"round_pages_sent", report.progress->pages_sent.load()},
          {"memory", memory_json(report.memory)},
          {"held", std::move(held)},
          {"images", images_json(report.images)},
          {"layer", layer_json(report.layer)},
          {"rounds", rounds_json(report.rounds)},
          {"queued_ms", rounded(times.queued)},
          {"preflight_ms", rounded(times.preflight)},
          {"pre_copy_ms", rounded(times.pre_copy)},
          {"downtime_ms", rounded(times.downtime)},
          {"downtime_parts_ms", std::move(parts)},
          {"drain_ms", rounded(times.drain)},
          {"total_ms", rounded(times.total)},
          {"tidy_ms", rounded(times.tidy)},
          {"warnings", list(report.warnings)}};
  add_progress(out, report);
  return out;
}

std::string timestamp(std::chrono::sys_time<std::chrono::microseconds> time) {
  const auto ms = std::chrono::floor<std::chrono::milliseconds>(time).time_since_epoch().count();
  const std::time_t whole = ms / 1000;
  tm parts{};
  gmtime_r(&whole, &parts);
  char seconds[32];
  std::strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &parts);
  char text[48];
  std::snprintf(text, sizeof text, "%s.%03dZ", seconds, static_cast<int>(ms % 1000));
  return text;
}

std::string timestamp_now() {
  return timestamp(std::chrono::floor<std::chrono::microseconds>(std::chrono::system_clock::now()));
}

}  // namespace lifeboat
