// Lines of a replay file, which is also what `lifeboat-predict record` writes.
#include "fuzz.hpp"
#include "predictor/event.hpp"
#include "predictor/sources/text.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  using namespace lifeboat::predictor;
  const auto event = parse_replay_line(fuzz::text(data, size));
  fuzz::require_good(event);
  if (!event) return 0;
  fuzz::require(event->text.size() <= kTextMax, "a text is within its limit");
  const auto again = parse_replay_line(to_replay_line(*event));
  fuzz::require(again && *again == *event, "an event comes back from its line as it was");
  return 0;
}
