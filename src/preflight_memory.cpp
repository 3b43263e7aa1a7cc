#include "preflight_memory.hpp"

#include <string>

#include "criu_glue/descriptors.hpp"

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
  Status status;
  for (const pid_t pid : pids) {
    (void)each_descriptor(pid, [&](const std::string&, const std::string& target) {
      status = check_file(pid, target);
      return !status;
    });
    if (!status) break;
  }
  return status;
}

}  // namespace lifeboat
