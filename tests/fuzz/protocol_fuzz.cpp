// Headers of the frames that daemons send each other: what is taken is within its limit and comes
// out again as it was.
#include "migration/protocol.hpp"

#include <algorithm>
#include <cstring>

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  using namespace lifeboat::protocol;
  unsigned char in[kHeaderBytes] = {};
  std::memcpy(in, data, std::min(size, sizeof in));
  const auto header = decode(in);
  fuzz::require_good(header);
  if (!header) return 0;
  fuzz::require(header->kind != Kind::kInvalid && to_string(header->kind) != "unknown",
                "its kind has a name");
  fuzz::require(header->length <= kJsonBytesMax, "no frame is longer than the longest");
  unsigned char out[kHeaderBytes];
  encode(*header, out);
  fuzz::require(std::equal(in, in + kHeaderBytes, out), "a header comes out again as it was");
  return 0;
}
