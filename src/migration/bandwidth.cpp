#include "migration/bandwidth.hpp"

#include <algorithm>

namespace lifeboat {

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
  const auto active = static_cast<std::uint64_t>(std::count(busy_.begin(), busy_.end(), true));
  std::vector<std::uint64_t> rates = applied_;
  std::uint64_t given = 0;
  for (std::size_t i = 0; i < rates.size(); ++i) {
    if (limit_ == 0) {
      rates[i] = 0;
    } else if (busy_[i]) {
      // 0 would be no limit at all.
      rates[i] = std::max<std::uint64_t>(limit_ / active + (given < limit_ % active ? 1 : 0), 1);
      ++given;
    }
  }
  // First those that get less, so that the sum is right at every moment.
  const auto lowers = [&](std::size_t i) {
    return applied_[i] == 0 || (rates[i] != 0 && rates[i] < applied_[i]);
  };
  for (const bool lower : {true, false}) {
    for (std::size_t i = 0; i < rates.size(); ++i) {
      if (rates[i] == applied_[i] || lowers(i) != lower) continue;
      apply_(i, rates[i]);
      applied_[i] = rates[i];
    }
  }
}

}  // namespace lifeboat
