#include "migration/compression.hpp"

#include <algorithm>

namespace lifeboat {

namespace {

constexpr double kWindowSeconds = 0.05;
// A connection that waits for a smaller part of its time is not held up by the wire.
constexpr double kWaitingShare = 0.1;
// While the wire is not filled its rate is not seen: it is taken to grow slowly, so that one that
// has become faster is tried without compression again after some seconds.
constexpr double kWireGrowth = 1.03;
// What another encoding must promise: less is noise, or eaten by what is not counted (the
// receiver's work, the caches).
constexpr double kGainLeast = 0.9;
// What the encoding in use must still gain: for less it is not worth the processor.
constexpr double kKeptGainLeast = 0.97;
constexpr double kLimitShare = 0.8;
constexpr std::uint64_t kTrialDistanceMin = 8U << 20;
constexpr std::uint64_t kTrialDistanceMax = 256U << 20;

constexpr std::array kEncodings = {page_stream::Encoding::kRaw, page_stream::Encoding::kLz4,
                                   page_stream::Encoding::kZstd};

std::optional<page_stream::Encoding> always(CompressionMode mode) {
  switch (mode) {
    case CompressionMode::kOff: return page_stream::Encoding::kRaw;
    case CompressionMode::kLz4: return page_stream::Encoding::kLz4;
    case CompressionMode::kZstd: return page_stream::Encoding::kZstd;
    case CompressionMode::kAuto: break;
  }
  return std::nullopt;
}

double mixed(double old, double now, bool known) { return known ? 0.75 * old + 0.25 * now : now; }

}  // namespace

CompressionControl::CompressionControl(CompressionMode mode)
    : mode_(mode),
      always_(always(mode)),
      best_(always_.value_or(Encoding::kRaw)),
      trial_distance_(kTrialDistanceMin) {
  costs_[static_cast<std::size_t>(Encoding::kRaw)].known = true;
}

bool CompressionControl::take_trial() {
  if (mode_ != CompressionMode::kAuto || !waits_ || since_trial_ < trial_distance_) return false;
  since_trial_ = 0;
  trial_distance_ = std::min(2 * trial_distance_, kTrialDistanceMax);
  return true;
}

void CompressionControl::packed(Encoding encoding, std::uint64_t raw, std::uint64_t packed,
                                double seconds) {
  if (raw == 0) return;
  const auto bytes = static_cast<double>(raw);
  Cost& cost = costs_[static_cast<std::size_t>(encoding)];
  cost.ratio = mixed(cost.ratio, std::min(static_cast<double>(packed) / bytes, 1.0), cost.known);
  cost.packing = mixed(cost.packing, seconds / bytes, cost.known);
  cost.known = true;
}

void CompressionControl::sent(const Sent& sent) {
  if (mode_ == CompressionMode::kOff) return;
  since_trial_ += sent.raw_bytes;
  window_.raw_bytes += sent.raw_bytes;
  window_.wire_bytes += sent.wire_bytes;
  window_.seconds += sent.seconds;
  window_.waiting_s += sent.waiting_s;
  window_.packing_s += sent.packing_s;
  if (window_.seconds < kWindowSeconds) return;
  end_window();
  window_ = Sent{};
  decide();
}

void CompressionControl::end_window() {
  if (window_.raw_bytes == 0) return;
  const double rate = static_cast<double>(window_.wire_bytes) / window_.seconds;
  waits_ = window_.waiting_s >= kWaitingShare * window_.seconds;
  if (waits_) {
    wire_ = mixed(wire_, rate, wire_ > 0);
  } else if (wire_ > 0) {
    wire_ = std::max(rate, wire_ * kWireGrowth);
  }
  const double working = std::max(window_.seconds - window_.waiting_s - window_.packing_s, 0.0);
  work_ = mixed(work_, working / static_cast<double>(window_.raw_bytes), work_ > 0);
}

double CompressionControl::seconds_per_byte(Encoding encoding) const {
  const Cost& cost = costs_[static_cast<std::size_t>(encoding)];
  return std::max(work_ + cost.packing, cost.ratio / wire_);
}

bool CompressionControl::may_be(Encoding encoding) const {
  const bool allowed = !always_ || encoding == *always_ || encoding == Encoding::kRaw;
  return allowed && costs_[static_cast<std::size_t>(encoding)].known;
}

void CompressionControl::decide() {
  Encoding best = best_;
  if (wire_ <= 0) {
    best = Encoding::kRaw;
  } else {
    const double raw = seconds_per_byte(Encoding::kRaw);
    const double now = seconds_per_byte(best_);
    double least = now * kGainLeast;
    if (best_ != Encoding::kRaw && now > raw * kKeptGainLeast) {
      best = Encoding::kRaw;
      least = raw * kGainLeast;
    }
    for (const Encoding other : kEncodings) {
      if (other == best_ || !may_be(other)) continue;
      const double seconds = seconds_per_byte(other);
      if (seconds >= least) continue;
      best = other;
      least = seconds;
    }
  }
  if (best != best_) trial_distance_ = kTrialDistanceMin;
  best_ = best;
}

void CompressionControl::limited(std::uint64_t bytes_per_s) {
  const auto now = static_cast<double>(bytes_per_s);
  if (now == limit_) return;
  // A wire as slow as its limit was held up by it, and is not known beyond.
  const bool held_up = limit_ > 0 && wire_ >= kLimitShare * limit_;
  if (now == 0) {
    if (held_up) wire_ = 0;
  } else if (held_up || wire_ > now) {
    wire_ = now;
  }
  limit_ = now;
  window_ = Sent{};
}

}  // namespace lifeboat
