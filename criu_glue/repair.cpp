#include "criu_glue/repair.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/fd.hpp"

namespace lifeboat {

namespace fs = std::filesystem;

std::size_t end_repair_mode(const std::vector<pid_t>& pids) {
  std::size_t ended = 0;
  for (pid_t pid : pids) {
    const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!pidfd) continue;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
      std::error_code unreadable;
      if (fs::read_symlink(entry.path(), unreadable).string().rfind("socket:", 0) != 0) continue;
      const int number = std::atoi(entry.path().filename().c_str());
      const Fd socket(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), number, 0)));
      int mode = 0;
      socklen_t size = sizeof mode;
      if (!socket ||
          ::getsockopt(socket.get(), IPPROTO_TCP, TCP_REPAIR, &mode, &size) != 0 || mode == 0) {
        continue;
      }
      mode = 0;
      if (::setsockopt(socket.get(), IPPROTO_TCP, TCP_REPAIR, &mode, sizeof mode) == 0) ++ended;
    }
  }
  return ended;
}

}  // namespace lifeboat
