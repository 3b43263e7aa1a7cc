// cgroup_image.hpp - spares CRIU's restore a process that it has no need of.
//
// Lifeboat makes the container's cgroup, and its tasks are born in it. CRIU (4.2.1) takes no care of cgroups then, but
// starts a process that would move threads between them, and waits for its end: 1 to 2 ms of the
// freeze.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace lifeboat {

// Leaves an image directory's cgroups out if all threads were in the same. Before CRIU reads it.
[[nodiscard]] Status leave_cgroups_out(const std::string& directory);

// Whether a cgroup.img has one set of cgroups and no more. kProtocol: it is none.
[[nodiscard]] Result<bool> has_one_cgroup_set(std::string_view image);

}  // namespace lifeboat
