// descriptors.hpp - what a process has open, as /proc/PID/fd tells it.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

namespace lifeboat {

// `use` gets {number, what it is} of each descriptor, until it says true. A process that has ended has none.
template <class Use>
void each_descriptor(pid_t pid, Use use) {
  std::error_code error;
  std::filesystem::directory_iterator at("/proc/" + std::to_string(pid) + "/fd", error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(at->path(), gone);
    if (!gone && use(at->path().filename().string(), target.string())) return;
  }
}

// Whether it has a file open with O_DIRECT. Devices write to the buffers of such reads without a trace in
// the page tables, even after a tracker has looked at them.
bool uses_direct_io(pid_t pid);

}  // namespace lifeboat
