#include "progress.hpp"

#include <algorithm>

namespace lifeboat {

void RateMeter::add(double now_s, std::uint64_t bytes) {
  seen_.emplace_back(now_s, bytes);
  // One that is older than the window stays, or there would be nothing to compare with.
  while (seen_.size() > 2 && seen_[1].first < now_s - kWindowS) seen_.pop_front();
}

double RateMeter::bytes_per_s() const {
  if (seen_.size() < 2) return 0;
  const auto& [start_s, start_bytes] = seen_.front();
  const auto& [end_s, end_bytes] = seen_.back();
  if (end_s <= start_s || end_bytes < start_bytes) return 0;
  return static_cast<double>(end_bytes - start_bytes) / (end_s - start_s);
}

namespace {

bool is_one_of(const std::string& phase, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](const char* name) { return phase == name; });
}

std::uint64_t less(std::uint64_t whole, std::uint64_t part) {
  return whole > part ? whole - part : 0;
}

// The first of these that is known.
double best_rate(std::initializer_list<double> rates) {
  for (const double rate : rates) {
    if (rate > 0) return rate;
  }
  return 0;
}

double seconds(std::uint64_t bytes, double rate) {
  return rate > 0 ? static_cast<double>(bytes) / rate : -1;
}

// Pages written while the rest of a round is sent are sent by further rounds: a geometric series,
// and not for ever, because the control law ends it.
double round_factor(double dirty, double rate) {
  constexpr double kRoundsEndAt = 0.9;
  return rate > 0 ? 1 / (1 - std::min(dirty / rate, kRoundsEndAt)) : 1;
}

}  // namespace

Progress estimate(const ProgressState& state) {
  Progress out;
  out.rate_bytes_per_s = state.rate_bytes_per_s;
  out.dirty_bytes_per_s = state.dirty_bytes_per_s;
  if (state.over) {
    out.eta_s = 0;
    return out;
  }
  const bool after_round = state.send_bytes_per_s > 0;
  if (!state.live) out.expected_downtime_ms = state.stopped_ms;
  if (state.live && after_round) out.expected_downtime_ms = state.fixed_ms + state.rest_s * 1000;
  const double frozen_s =
      state.live ? std::max(out.expected_downtime_ms, state.fixed_ms) / 1000
                 : kRestoreSecondsPerByte * static_cast<double>(state.memory_bytes);
  double sending_s = 0;
  double factor = 1;
  if (is_one_of(state.phase, {"queued", "connect"})) {
    out.remaining_bytes = state.memory_bytes;
    sending_s = seconds(state.ahead_bytes + state.memory_bytes, state.nominal_bytes_per_s);
  } else if (state.live) {
    out.remaining_bytes = less(state.round_bytes, state.round_sent_bytes);
    const double rate =
        best_rate({state.send_bytes_per_s, state.rate_bytes_per_s, state.nominal_bytes_per_s});
    sending_s = seconds(out.remaining_bytes, rate);
    if (state.phase == "pre-copy") factor = round_factor(state.dirty_bytes_per_s, rate);
  } else {
    if (state.phase != "restore" && state.phase != "commit") {
      // Pages may take less on the wire than in memory, CRIU's images do not.
      out.remaining_bytes = state.round_bytes > 0 ? less(state.round_bytes, state.round_sent_bytes)
                                                  : less(state.memory_bytes, state.sent_bytes);
    }
    sending_s = seconds(out.remaining_bytes,
                        best_rate({state.rate_bytes_per_s, state.nominal_bytes_per_s}));
  }
  if (sending_s >= 0) out.eta_s = sending_s * factor + frozen_s;
  return out;
}

}  // namespace lifeboat
