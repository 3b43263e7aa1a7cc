#include "memory_account.hpp"

#include <algorithm>

namespace lifeboat {

namespace {

std::string mib(std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace

std::uint64_t MemoryAccount::promised() const {
  std::uint64_t bytes = 0;
  for (const Entry& entry : *entries_) {
    const std::uint64_t used = entry.used ? entry.used() : 0;
    bytes += entry.bytes - std::min(entry.bytes, used);
  }
  return bytes;
}

Result<MemoryAccount::Reservation> MemoryAccount::reserve(std::uint64_t bytes,
                                                          std::uint64_t available) {
  const std::uint64_t others = promised();
  const std::uint64_t left = available - std::min(available, others);
  if (bytes > left) {
    const bool alone = bytes > available;
    return fail(alone ? Errc::kRefused : Errc::kConflict,
                "not enough free memory: " + mib(bytes) + " needed for pages and images, " +
                    mib(available) + " available" +
                    (others > 0 ? ", " + mib(others) + " of that promised to other arrivals" : "") +
                    (alone ? "; free memory there or take another node (lifeboat nodes)" : ""));
  }
  entries_->push_back(Entry{bytes, nullptr});
  return Reservation(entries_, std::prev(entries_->end()));
}

}  // namespace lifeboat
