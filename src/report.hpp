// report.hpp - what a migration was and what it cost: one immutable record, as a log line for
// people and as JSON for programs.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "migration/cancellation.hpp"
#include "migration/precopy_control.hpp"
#include "migration/sent_bytes.hpp"
#include "progress.hpp"

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
  double queued = 0;     // waiting for its turn; part of the total only
  double preflight = 0;  // connect, checks on both ends, target prepared: the container runs
  double pre_copy = 0;   // rounds, and CRIU started: the container runs
  double freeze = 0;     // tasks stopped, port unplugged
  double dump = 0;       // CRIU has written its images (most of them are sent meanwhile)
  double transfer = 0;   // what was left to send after that
  double restore = 0;    // CRIU at the target, up to its hold
  double network = 0;    // plugged in and announced at the target
  double resume = 0;     // commit message, release of the tasks, answer
  double downtime = 0;
  double drain = 0;  // post-copy: from the commit until the source is not needed any more
  double total = 0;  // from the request until the source was not needed any more
  double tidy = 0;   // after that: what was left at the source removed
};

// How its memory is moved; `--mode`.
enum class MigrationMode {
  kPreCopy,      // rounds while it runs, the rest while it is frozen
  kStopAndCopy,  // everything while it is frozen
  kPostCopy,     // nothing before it runs at the target; pages as they are needed, then the rest
  kHybrid,       // a few rounds, then as post-copy
  kCriuImages,   // everything while it is frozen, in CRIU's images: works without the memory engine
};
inline constexpr MigrationMode kMigrationModes[] = {
    MigrationMode::kPreCopy, MigrationMode::kStopAndCopy, MigrationMode::kPostCopy,
    MigrationMode::kHybrid, MigrationMode::kCriuImages};

// Whether the container depends on its source for a while after the commit.
[[nodiscard]] constexpr bool is_post_copy(MigrationMode mode) {
  return mode == MigrationMode::kPostCopy || mode == MigrationMode::kHybrid;
}

[[nodiscard]] const char* to_string(MigrationMode mode);
// kInvalid naming the modes there are.
Result<MigrationMode> migration_mode_from(const std::string& name);

// Memory on its way, as far as it goes; written by the sending threads.
struct MemoryProgress {
  SentBytes bytes_sent;
  std::atomic<std::uint64_t> pages_to_send{0};  // of this round
  std::atomic<std::uint64_t> pages_sent{0};     // of these
};

// One round of pre-copy and what was decided after it.
struct RoundReport {
  RoundMeasurement measured;
  PrecopyDecision decision;
  bool went_first = false;  // before the job's own work: the deadline was near
};

// What became of the container's memory.
struct MemoryReport {
  std::uint64_t pages = 0;            // that it had in the end
  std::uint64_t pages_frozen = 0;     // of these, sent while it was frozen
  std::uint64_t pages_untracked = 0;  // of these, because nothing could track them
  // Over all rounds:
  std::uint64_t pages_zero = 0;        // not sent: all zeros
  std::uint64_t pages_duplicate = 0;   // not sent: the target had the same
  std::uint64_t pages_compressed = 0;
  std::uint64_t bytes_raw = 0;         // of all pages, as they are in memory
  std::uint64_t bytes_on_wire = 0;     // what became of them on the page connections
  std::uint64_t pages_later = 0;      // post-copy: missing at the target when it ran
  std::uint64_t pages_wanted = 0;     // of these, sent at once because a thread waited
  std::uint64_t bytes_frozen = 0;     // on the wire while frozen, pages and images
  double survey_ms = 0;               // final look at the page tables (beside the dump)
  double send_ms = 0;                 // last pages, beside the dump
  double criu_dump_ms = 0;
  std::string untracked_reason;
};

// CRIU's images: all that Lifeboat does not carry itself.
struct ImageReport {
  std::uint64_t bytes = 0;        // of them
  std::uint64_t known_bytes = 0;  // of these, pages that the target had already
  std::uint64_t ahead_bytes = 0;  // of such pages, on the wire while it ran
  unsigned passes = 0;            // in which they were sent
  double ahead_ms = 0;            // these took
};

// Frames that arrived for the container while it was frozen (hold.hpp).
struct HoldReport {
  std::uint64_t frames = 0;
  std::uint64_t bytes = 0;
  std::uint64_t delivered = 0;  // to the container, where it runs now
  std::uint64_t dropped = 0;    // beyond the bounds
};

// What became of the container's writable layer; all zero when its root is read-only.
struct LayerReport {
  std::uint64_t files = 0;          // in the end, directories not counted
  std::uint64_t bytes_running = 0;  // on the wire while it ran
  std::uint64_t bytes_frozen = 0;   // on the wire while it was frozen
  double frozen_ms = 0;             // looking for these and sending them, beside the dump
  std::uint64_t bytes_tracked = 0;  // of shared memory of which only what was written was looked at while frozen
};

struct MigrationReport {
  std::string id;
  std::string container;
  std::string job;
  std::string source;
  std::string target;
  std::string fabric;
  MigrationMode mode = MigrationMode::kPreCopy;
  std::string phase = "connect";  // the step it is in, or was in when it failed; first "queued"
  std::function<void(const MigrationReport&)> on_phase;  // called by enter()
  Outcome outcome = Outcome::kRunning;
  std::string error;  // why it was aborted
  std::string started_at;
  std::uint64_t resident_bytes = 0;  // memory of the container when it was frozen, until then at first
  std::uint64_t bytes_sent = 0;
  bool retry_without_pages = false;  // this attempt failed in a way that CRIU's images avoid
  bool offered = false;              // the registry may hold it open
  bool target_busy = false;          // this attempt was turned away: there will be a place later
  std::vector<RoundReport> rounds;
  MemoryReport memory;
  ImageReport images;
  HoldReport hold;
  LayerReport layer;
  std::shared_ptr<MemoryProgress> progress = std::make_shared<MemoryProgress>();
  Cancellation cancellation;
  std::size_t queue_position = 0;  // 1: next; 0: it does not wait
  std::string waiting_for;         // why its turn has not come
  // For the estimate of what is left; see progress.hpp.
  RateMeter rate;
  std::uint64_t ahead_bytes = 0;
  double nominal_bytes_per_s = 0;
  double fixed_ms = 0;
  double stopped_ms = 0;
  std::vector<std::string> warnings;
  MigrationTimes times;

  // The next step begins.
  void enter(const char* next) {
    if (phase == next) return;
    phase = next;
    if (on_phase) on_phase(*this);
  }
};

json::object to_json(const MigrationReport& report);
// How far it is.
Progress progress_of(const MigrationReport& report);

// UTC, "2026-01-31T12:00:00.123Z".
std::string timestamp(std::chrono::sys_time<std::chrono::microseconds> time);
std::string timestamp_now();

}  // namespace lifeboat
