// /proc/PID/mountinfo of a container, whose mount points it chooses itself.
#include "fuzz.hpp"
#include "tmpfs.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  const auto mounts = parse_tmpfs_mounts(fuzz::text(data, size));
  const auto again = tmpfs_mounts_from(to_json(mounts));
  fuzz::require_good(again);
  for (const TmpfsMount& mount : mounts) {
    fuzz::require(!mount.target.empty() && mount.target != "/", "never the root");
  }
  return 0;
}
