// Records of the kernel's log, whose text may hold names that a user chose.
#include "predictor/sources/kmsg.hpp"

#include "fuzz.hpp"
#include "predictor/sources/kernel_text.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  using namespace lifeboat::predictor;
  const auto record = parse_kmsg_record(fuzz::text(data, size));
  fuzz::require_good(record);
  Event event;
  event.node = "n1";
  event.source = "kmsg";
  event.text = clean(record ? record->text : std::string(fuzz::text(data, size)));
  fuzz::require(event.text.size() <= kTextMax, "a text is within its limit");
  classify_kernel_text(event);
  add_memory_details(event, fuzz::text(data, size));
  const auto again = parse_replay_line(to_replay_line(event));
  fuzz::require(again && again->kind == event.kind && again->text == event.text,
                "an event comes back from its line");
  return 0;
}
