#include "preflight_memory.hpp"

#include <fcntl.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/file.hpp"

namespace lifeboat {

namespace {

Status check_file(pid_t pid, const std::string& target) {
  const std::string process = "process " + std::to_string(pid);
  if (target == "anon_inode:[io_uring]") {
    return fail(Errc::kRefused, process + " uses io_uring, which cannot be moved: the kernel writes to its "
                                          "buffers unseen; run it without (for MPI-IO: a POSIX driver)");
  }
  if (target == "anon_inode:[userfaultfd]") {
    return fail(Errc::kRefused,
                process + " fills memory by a userfaultfd of its own, which cannot be moved");
  }
  return {};
}

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

}  // namespace

Status check_memory_use(const std::vector<pid_t>& pids) {
  Status status;
  for (const pid_t pid : pids) {
    each_descriptor(pid, [&](const std::string&, const std::string& target) {
      status = check_file(pid, target);
      return !status;
    });
    if (!status) break;
  }
  return status;
}

bool uses_direct_io(pid_t pid) {
  bool found = false;
  each_descriptor(pid, [&](const std::string& number, const std::string& target) {
    if (target.empty() || target[0] != '/') return false;  // a pipe's O_DIRECT means something else
    const auto info = read_file("/proc/" + std::to_string(pid) + "/fdinfo/" + number, 8192);
    const auto at = info ? info->find("flags:") : std::string::npos;
    found = at != std::string::npos && (std::strtoul(info->c_str() + at + 6, nullptr, 8) & O_DIRECT) != 0;
    return found;
  });
  return found;
}

}  // namespace lifeboat
