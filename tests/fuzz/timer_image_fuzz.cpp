// CRIU's files.img, as a source sends it: with its timers mended there is nothing more to mend.
#include "criu_glue/timer_image.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  const auto mended = with_timers_rearmed(fuzz::text(data, size));
  fuzz::require_good(mended);
  if (!mended || !*mended) return 0;
  const auto again = with_timers_rearmed(**mended);
  fuzz::require_good(again);
  fuzz::require(again && !*again, "what is mended is an image, and stays as it is");
  return 0;
}
