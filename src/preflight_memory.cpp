#include "preflight_memory.hpp"

#include <filesystem>
#include <string>

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

}  // namespace

Status check_memory_use(const std::vector<pid_t>& pids) {
  for (const pid_t pid : pids) {
    std::error_code error;
    std::filesystem::directory_iterator at("/proc/" + std::to_string(pid) + "/fd", error);
    for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
      std::error_code gone;
      const auto target = std::filesystem::read_symlink(at->path(), gone);
      if (!gone) CHECK_OK(check_file(pid, target.string()));
    }
  }
  return {};
}

}  // namespace lifeboat
