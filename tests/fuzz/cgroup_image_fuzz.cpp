// CRIU's cgroup.img, as a source sends it.
#include "criu_glue/cgroup_image.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  const auto one = has_one_cgroup_set(fuzz::text(data, size));
  fuzz::require_good(one);
  fuzz::require(!one || !*one || size > 8, "what has a set is more than two magic numbers");
  return 0;
}
