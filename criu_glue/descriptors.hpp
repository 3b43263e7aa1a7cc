// descriptors.hpp - what a process has open, as /proc/PID/fd tells it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <system_error>

namespace lifeboat {

// `use` gets {number, what it is} of each descriptor, until it says true. A process that has ended has none. False:
// they could not be read.
template <class Use>
[[nodiscard]] bool each_descriptor(pid_t pid, Use use) {
  std::error_code error;
  std::filesystem::directory_iterator at("/proc/" + std::to_string(pid) + "/fd", error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(at->path(), gone);
    if (!gone && use(at->path().filename().string(), target.string())) return true;
  }
  return !error || error == std::errc::no_such_file_or_directory || error == std::errc::no_such_process;
}

// Whether it has a file open with O_DIRECT. Devices write to the buffers of such reads without a trace in
// the page tables, even after a tracker has looked at them.
bool uses_direct_io(pid_t pid);
// Whether this descriptor is one, of a file with a path; nothing when that cannot be told.
std::optional<bool> is_for_direct_io(pid_t pid, const std::string& number, const std::string& target);

}  // namespace lifeboat
