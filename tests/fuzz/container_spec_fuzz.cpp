// A container's description, as a peer offers it and as a record in run_dir keeps it.
#include "container_spec.hpp"

#include "fuzz.hpp"
#include "tmpfs.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  const auto object = parse_object(fuzz::text(data, size));
  fuzz::require_good(object);
  if (!object) return 0;
  const auto spec = container_spec_from(*object);
  fuzz::require_good(spec);
  if (spec) {
    fuzz::require(
        spec->id.find('/') == std::string::npos && spec->id.find('.') == std::string::npos,
        "an id names one directory");
    const auto again = container_spec_from(to_json(*spec));
    fuzz::require(again && to_json(*again) == to_json(*spec), "a description comes back as it was");
    fuzz::require_good(check_endpoints(spec->id, spec->endpoints));
  }
  if (const json::value* tmpfs = object->if_contains("tmpfs");
      tmpfs != nullptr && tmpfs->is_array()) {
    const auto mounts = tmpfs_mounts_from(tmpfs->get_array());
    fuzz::require_good(mounts);
    if (mounts) {
      const auto again = tmpfs_mounts_from(to_json(*mounts));
      fuzz::require(again && *again == *mounts, "mounts come back as they were");
    }
  }
  return 0;
}
