#include "migration/bandwidth.hpp"

#include <algorithm>

namespace lifeboat {

namespace {

// What a connection without work keeps, for its acknowledgements: 64 KiB/s, or its part of less.
constexpr std::uint64_t kIdleBytesPerSecond = 64U << 10;

}  // namespace

BandwidthShare::BandwidthShare(std::size_t connections,
                               std::function<void(std::size_t, std::uint64_t)> apply)
    : apply_(std::move(apply)), busy_(connections, true), applied_(connections, 0) {}

void BandwidthShare::limit(std::uint64_t bytes_per_s) {
  const std::lock_guard lock(mutex_);
  limit_ = bytes_per_s;
  share();
}

std::uint64_t BandwidthShare::limit() const {
  const std::lock_guard lock(mutex_);
  return limit_;
}

void BandwidthShare::busy(std::size_t connection, bool is) {
  const std::lock_guard lock(mutex_);
  busy_[connection] = is;
  share();
}

void BandwidthShare::end() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
}

void BandwidthShare::share() {
  if (ended_) return;
  const std::uint64_t all = busy_.size();
  const auto active = static_cast<std::uint64_t>(std::count(busy_.begin(), busy_.end(), true));
  const std::uint64_t idle_rate = std::min(kIdleBytesPerSecond, limit_ / std::max<std::uint64_t>(all, 1));
  const std::uint64_t left = limit_ - idle_rate * (all - active);
  std::vector<std::uint64_t> rates(all, 0);
  std::uint64_t given = 0;
  for (std::size_t i = 0; limit_ > 0 && i < all; ++i) {
    // 0 would be no limit at all.
    rates[i] = idle_rate;
    if (busy_[i]) {
      rates[i] = left / active + (given < left % active ? 1 : 0);
      ++given;
    }
    rates[i] = std::max<std::uint64_t>(rates[i], 1);
  }
  // First those that get less, so that the sum is right at every moment.
  const auto lowers = [&](std::size_t i) {
    return applied_[i] == 0 || (rates[i] != 0 && rates[i] < applied_[i]);
  };
  for (const bool lower : {true, false}) {
    for (std::size_t i = 0; i < all; ++i) {
      if (rates[i] == applied_[i] || lowers(i) != lower) continue;
      apply_(i, rates[i]);
      applied_[i] = rates[i];
    }
  }
}

}  // namespace lifeboat
