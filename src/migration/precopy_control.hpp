// precopy_control.hpp - when to stop the rounds of pre-copy and freeze: a pure function of what was
// measured.
//
// Source of the law: Algorithm 2 of Ibrahim, Hofmeyr, Iancu and Roman (see precopy_control.cpp for
// the full reference), with a downtime budget, a deadline from the predicted lead time, and pages
// held back that are written in every round.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace lifeboat {

// One finished round of pre-copy.
struct RoundMeasurement {
  unsigned round = 0;             // 1: everything
  double started_s = 0;           // since the migration began: when the scan of the round began
  double scan_s = 0;
  double send_s = 0;              // until the target had acknowledged all of it
  // Mean over the pages sent: from the moment on from which writes to one counted as new (that it was
  // read at) to the end of the round. 0: not told, the whole round.
  double exposed_s = 0;
  // Of the connection that ran longest on a processor: for how long, and for how long it was ready and waited for one,
  // because the job had them. 0: not told.
  double ran_s = 0;
  double waited_s = 0;
  std::uint64_t pages_found = 0;  // written since they were sent last, when the round began
  std::uint64_t pages_sent = 0;   // of these and of those written until their turn came; the rest was held back
  // Of those sent, sent in the round just before as well. (In *any* earlier round would say
  // nothing: round 1 sends everything.) It counts from round 3 on, like the paper's history bitmap.
  std::uint64_t pages_resent = 0;
  std::uint64_t pages_held_back = 0;
  std::uint64_t bytes_on_wire = 0;
  // What would have to be sent now, were the container frozen, with what was held back: counted
  // right after the round by a scan that protects nothing (and so costs the job no fault).
  std::uint64_t pages_dirty_after = 0;
  // Of these, the pages of processes whose tracking was refused and is tried again in the next round.
  std::uint64_t pages_untracked = 0;

  bool operator==(const RoundMeasurement&) const = default;
};

struct PrecopyLimits {
  double downtime_budget_s = 0.05;   // of sending while frozen
  double deadline_s = 0;             // since the migration began, for the freeze to start; 0: none
  unsigned rounds_max = 30;
  double bytes_max_factor = 4.0;     // x the container's memory, over all rounds
  double interval_s = 0.3;           // least time from round to round, but for those that close
  double rate_bytes_per_s = 0;       // nominal, of the fabric; measured rates replace it
  double page_fault_cost_s = 1.1e-6; // what a round costs the job per page it writes first
  bool patterns = true;  // false: only budget, rounds_max, bytes and deadline end the rounds

  bool operator==(const PrecopyLimits&) const = default;
};

// The paper's: kA dirty set stable, kB one interval drains everything, kC the same pages again and
// again. kNone with a freeze: a limit or the budget ended the rounds.
enum class PrecopyPattern { kNone, kA, kB, kC };
[[nodiscard]] const char* to_string(PrecopyPattern pattern);

struct PrecopyDecision {
  bool freeze = false;
  std::string reason;            // for people, with numbers
  PrecopyPattern pattern = PrecopyPattern::kNone;
  double wait_s = 0;             // before the next scan, if not frozen
  bool hold_back_hot = false;    // leave pages written in each of the last rounds to the freeze
  double expected_downtime_s = 0;  // of sending what is dirty now, if frozen now
  double dirty_bytes_per_s = 0;    // moving average
  double send_bytes_per_s = 0;     // moving average
  double next_downtime_s = 0;      // what expected_downtime_s will be after one more round, at best

  bool operator==(const PrecopyDecision&) const = default;
};

// What to do after the last of `rounds` (at least one), of a container with `memory_bytes`.
[[nodiscard]] PrecopyDecision decide(const std::vector<RoundMeasurement>& rounds,
                                     std::uint64_t memory_bytes, const PrecopyLimits& limits);

// Whether a round that begins at `now_s` and is expected to send for `send_s` is to be sent before the job
// does its own work: it might come too late for the deadline if it took turns with it.
[[nodiscard]] bool goes_first(double now_s, double send_s, const PrecopyLimits& limits);

json::object to_json(const RoundMeasurement& round);
json::object to_json(const PrecopyDecision& decision);
json::object to_json(const PrecopyLimits& limits);
// kProtocol when a member is missing or no number that can be (negative, infinite, a fraction).
Result<RoundMeasurement> round_measurement_from(const json::object& object);
// Members that are missing keep their default; kProtocol as above.
Result<PrecopyLimits> precopy_limits_from(const json::object& object);

}  // namespace lifeboat
