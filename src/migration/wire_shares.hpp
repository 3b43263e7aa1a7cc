// wire_shares.hpp - how fast each of the page streams that leave this node may go: a pure function.
//
// TCP shares a wire between connections, but not between migrations, and it knows nothing of their
// hurry: a container that is frozen waits for its last pages, the others only fill the time. So
// frozen ones get all they can use, and the others share what is left in equal parts, but never
// less than a small part of the wire: their connections must not count as dead.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lifeboat {

struct WireUse {
  std::string fabric;
  std::uint64_t fabric_bytes_per_s = 0;  // nominal
  std::uint64_t limit_bytes_per_s = 0;   // the operator's own, which always holds; 0: none
  bool sending = false;  // in a round; one that pauses needs no share
  bool urgent = false;   // frozen, or in its last round before that
};

// Of the wire, for all that are not urgent, while there is an urgent one.
inline constexpr double kPatientPart = 0.05;

// Bytes per second for each, in the same order; 0: no limit. Alone on its fabric a stream is not
// limited but by the operator: the nominal rate may be wrong.
[[nodiscard]] std::vector<std::uint64_t> wire_shares(const std::vector<WireUse>& uses);

}  // namespace lifeboat
