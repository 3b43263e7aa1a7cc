#include "memory_account.hpp"

#include <algorithm>

namespace lifeboat {

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
    return fail(Errc::kRefused, "not enough free memory: " + std::to_string(bytes >> 20) +
                                    " MiB needed for images and pages, " +
                                    std::to_string(available >> 20) + " MiB available, " +
                                    std::to_string(others >> 20) +
                                    " MiB of that promised to other arrivals");
  }
  entries_->push_back(Entry{bytes, nullptr});
  return Reservation(entries_, std::prev(entries_->end()));
}

}  // namespace lifeboat
