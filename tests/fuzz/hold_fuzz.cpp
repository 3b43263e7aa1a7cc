// Frames kept for a frozen container, as the source sends them: within the bound, and the same when
// they are sent on.
#include "migration/hold.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  HeldFrames held;
  const Status taken = held.decode({data, size});
  fuzz::require_good(taken);
  fuzz::require(held.bytes() <= size && held.bytes() <= kHeldBytesMax, "no more is kept than came");
  HeldFrames again;
  for (const auto& payload : held.encode(0)) {
    fuzz::require(again.decode(payload).has_value(), "what was taken can be sent on");
  }
  fuzz::require(again.frames().size() == held.frames().size(), "every frame is sent on");
  for (std::size_t i = 0; i < held.frames().size(); ++i) {
    fuzz::require(again.frames()[i].port == held.frames()[i].port &&
                      again.frames()[i].bytes == held.frames()[i].bytes,
                  "a frame is sent on as it came");
  }
  return 0;
}
