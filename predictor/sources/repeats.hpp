// repeats.hpp - one hardware error is told by several sources: a corrected memory error is a line
// of the kernel's log, a row of rasdaemon's database and a count of EDAC. Counted three times it
// would look like a storm.
//
// For each thing that may be told twice (a DIMM, a device, a processor) every source's sum is kept;
// an event counts by as much as it raises the highest of the sums, and is dropped when it does not.
// So whoever tells first is believed, and what only one source has seen is never lost. Once nobody
// has told anything for kSettled, all sums begin anew: a source that had missed some (an
// overwritten record) does not stay behind for ever. Same events in the same order, same outcome.
//
// Two lines of one source are two errors, however alike.
#pragma once

#include <map>

#include "predictor/event.hpp"

namespace lifeboat::predictor {

class Repeats {
 public:
  // Longer than any source lags behind another.
  static constexpr Duration kSettled = std::chrono::minutes(2);
  static constexpr std::size_t kThingsMax = 65536;

  // Lowers `event.count` to what is new; false: nothing is, the event is to be dropped.
  bool count_once(Event& event);

 private:
  struct Thing {
    Time last{};
    std::uint64_t highest = 0;
    std::map<std::string, std::uint64_t> told;  // by source
  };
  std::map<std::string, Thing> things_;
};

}  // namespace lifeboat::predictor
