// progress.hpp - how far a migration is and what is to be expected: pure functions of what the
// report knows while it goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

namespace lifeboat {

// The downtime but for sending what is dirty, of a container whose pages CRIU leaves alone: CRIU goes through
// its processes one by one, at both ends. As measured on two nodes that share two processors (README, figures).
inline double fixed_live_ms(std::size_t processes) { return 15 + 12 * static_cast<double>(processes); }
// CRIU's restore when it carries the memory, about half of its 1.3 s per GB.
inline constexpr double kRestoreSecondsPerByte = 0.65e-9;

// Bytes per second over about the last second.
class RateMeter {
 public:
  // `bytes` so far, seen at `now_s`; times do not go back.
  void add(double now_s, std::uint64_t bytes);
  // 0 until it was seen twice.
  [[nodiscard]] double bytes_per_s() const;

 private:
  static constexpr double kWindowS = 1;
  std::deque<std::pair<double, std::uint64_t>> seen_;
};

// What is known of it.
struct ProgressState {
  std::string phase;
  bool over = false;
  bool live = false;  // most of its memory moves while it runs, here or there
  std::uint64_t memory_bytes = 0;
  std::uint64_t sent_bytes = 0;
  std::uint64_t round_bytes = 0;  // of this round, or of the last pass while frozen
  std::uint64_t round_sent_bytes = 0;
  std::uint64_t ahead_bytes = 0;  // of others, that leave before it over the same fabric
  double rate_bytes_per_s = 0;    // measured just now
  double nominal_bytes_per_s = 0; // the fabric's
  double fixed_ms = 0;            // fixed_live_ms() of it
  double stopped_ms = 0;          // predicted downtime if all of it moves while it is frozen
  // From the decision after the last round; all 0 before.
  double dirty_bytes_per_s = 0;
  double send_bytes_per_s = 0;
  double rest_s = 0;  // sending what is dirty, were it frozen now
};

struct Progress {
  std::uint64_t remaining_bytes = 0;  // as of now; what will be written again is in eta_s only
  double rate_bytes_per_s = 0;
  double dirty_bytes_per_s = 0;
  double eta_s = -1;                 // until it runs at the target; negative: not known
  double expected_downtime_ms = -1;  // negative: not known yet
};

[[nodiscard]] Progress estimate(const ProgressState& state);

}  // namespace lifeboat
