#include "migration/duplicates.hpp"

#include <algorithm>
#include <bit>

namespace lifeboat {

DuplicateIndex::DuplicateIndex(std::size_t slots)
    : size_(static_cast<std::uint32_t>(std::bit_ceil(std::max<std::size_t>(slots, 1)))) {}

std::uint32_t DuplicateIndex::slot_of(const PageHash& hash) const {
  return static_cast<std::uint32_t>(hash.low) & (size_ - 1);
}

std::uint32_t DuplicateIndex::bucket_of(const PagePlace& place) const {
  // Consecutive pages have consecutive buckets.
  return (static_cast<std::uint32_t>(place.address / kPageBytes) + place.pid * 0x9e3779b1U) & (size_ - 1);
}

void DuplicateIndex::start() {
  slots_.resize(size_);
  buckets_.assign(size_, kNone);
  seen_ = hits_ = 0;
}

void DuplicateIndex::pause() {
  slots_ = {};
  buckets_ = {};
  seen_ = hits_ = 0;
  pause_windows_ = std::clamp<std::uint64_t>(2 * pause_windows_, 4, kPauseWindowsMax);
}

void DuplicateIndex::end() {
  pause();
  ended_ = true;
}

void DuplicateIndex::remove(std::uint32_t slot) {
  std::uint32_t* link = &buckets_[bucket_of(slots_[slot].place)];
  while (*link != slot) link = &slots_[*link].next;
  *link = slots_[slot].next;
  slots_[slot].used = false;
}

void DuplicateIndex::forget(const PagePlace& place) {
  std::uint32_t slot = buckets_[bucket_of(place)];
  while (slot != kNone && slots_[slot].place != place) slot = slots_[slot].next;
  if (slot != kNone) remove(slot);
}

void DuplicateIndex::put(std::uint32_t slot, const PageHash& hash, const PagePlace& place) {
  if (slots_[slot].used) remove(slot);
  std::uint32_t& first = buckets_[bucket_of(place)];
  slots_[slot] = Slot{hash, place, first, true};
  first = slot;
}

std::optional<page_stream::PagePlace> DuplicateIndex::next(const PageHash& hash,
                                                           const PagePlace& place) {
  if (!looking()) {
    if (!ended_ && ++seen_ > pause_windows_ * kWindowPages) start();
    if (!looking()) return std::nullopt;
  }
  if (++seen_ > kWindowPages) {
    if (hits_ < kHitsLeast) {
      pause();
      return std::nullopt;
    }
    pause_windows_ = 0;
    seen_ = 1;
    hits_ = 0;
  }
  const std::uint32_t slot = slot_of(hash);
  if (slots_[slot].used && slots_[slot].hash == hash) {
    const PagePlace known = slots_[slot].place;
    ++hits_;
    // What this place held until now is overwritten there.
    if (known != place) forget(place);
    return known;
  }
  forget(place);
  put(slot, hash, place);
  return std::nullopt;
}

void DuplicateIndex::zero(const PagePlace& place) {
  if (looking()) forget(place);
}

}  // namespace lifeboat
