// Traces of pre-copy rounds and limits, as files have them: whatever numbers they hold, the law
// decides something that can be done.
#include <cmath>

#include "fuzz.hpp"
#include "migration/precopy_control.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  const auto object = parse_object(fuzz::text(data, size));
  if (!object) return 0;
  PrecopyLimits limits;
  if (const json::value* given = object->if_contains("limits");
      given != nullptr && given->is_object()) {
    const auto read = precopy_limits_from(given->get_object());
    fuzz::require_good(read);
    if (!read) return 0;
    limits = *read;
  }
  std::vector<RoundMeasurement> rounds;
  if (const json::value* list = object->if_contains("rounds");
      list != nullptr && list->is_array()) {
    for (const json::value& item : list->get_array()) {
      if (!item.is_object()) continue;
      const auto round = round_measurement_from(item.get_object());
      fuzz::require_good(round);
      if (!round) return 0;
      const auto again = round_measurement_from(to_json(*round));
      fuzz::require(again && *again == *round, "a round comes back as it was");
      rounds.push_back(*round);
    }
  }
  if (rounds.empty()) return 0;
  const PrecopyDecision decision = decide(rounds, 1U << 30, limits);
  fuzz::require(!decision.reason.empty(), "a decision has a reason");
  fuzz::require(std::isfinite(decision.wait_s) && decision.wait_s >= 0, "the wait is one");
  fuzz::require(std::isfinite(decision.expected_downtime_s) && decision.expected_downtime_s >= 0,
                "the downtime is one");
  return 0;
}
