// tmpfs.hpp - the tmpfs mounts of a container, and new ones like them.
//
// CRIU would pack each with tar and gzip while the container is frozen and unpack it at the target
// in the same way: 6 ms and 9 ms for an empty one (measured, CRIU 4.2.1). So to CRIU they are
// external mounts: the target makes new ones before the freeze, and what is in them moves as a
// writable layer does (migration/layer.hpp).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "base/json.hpp"
#include "base/result.hpp"

namespace lifeboat {

struct TmpfsMount {
  std::string target;                // where it is mounted in the container
  std::string source;                // its name in the first column of `mount`
  std::vector<std::string> options;  // of the file system: "size=64k", "mode=755", "inode64"
  std::vector<std::string> flags;    // of the mount: "nosuid", "relatime"
  std::string device;                // "0:52", on this node

  bool operator==(const TmpfsMount&) const = default;
};

// The tmpfs mounts in the text of /proc/PID/mountinfo that can be made again elsewhere: whole ones,
// mounted once, alone at their place, writable, with options that we know. Whatever else there is remains CRIU's.
std::vector<TmpfsMount> parse_tmpfs_mounts(std::string_view mountinfo);
Result<std::vector<TmpfsMount>> tmpfs_mounts(pid_t pid);

json::array to_json(const std::vector<TmpfsMount>& mounts);  // without the device
// kProtocol for what parse_tmpfs_mounts() would not have given.
Result<std::vector<TmpfsMount>> tmpfs_mounts_from(const json::array& array);

// kRefused when a mount further up hides it. The root directory of one that `pid` has mounted; what is mounted below does not hide what is in it.
Result<Fd> open_tmpfs(pid_t pid, const TmpfsMount& mount);
// The root directory of a new one, empty. It is mounted nowhere (attach_mount_in() does that) and goes
// with the last descriptor and mount.
Result<Fd> make_tmpfs(const TmpfsMount& mount);

}  // namespace lifeboat
