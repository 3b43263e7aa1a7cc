// write_protect.hpp - the calls of a userfaultfd in asynchronous write-protect mode (Linux 6.7): the kernel itself
// takes the protection of a page off when it is written to first, and PAGEMAP_SCAN tells which have none.
#pragma once

#include "base/result.hpp"
#include "criu_glue/kernel_api.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat::write_protect {

// First of all, once. `tells_removed`: madvise() that takes memory away waits until its event is read
// (removed_ranges.hpp).
Status enable(int uffd, bool tells_removed = false);
// Registering again what is registered changes nothing.
[[nodiscard]] bool register_range(int uffd, const AddressRange& range);
// All of a registered range, or nothing of it: then it counts as written. Of a tmpfs also what is not there.
[[nodiscard]] bool set(int uffd, const AddressRange& range, bool on);

}  // namespace lifeboat::write_protect
