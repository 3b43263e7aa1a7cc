#include "criu_glue/freeze_on_death.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace lifeboat {

Result<FreezeOnDeath> FreezeOnDeath::watch(pid_t pid, const std::string& cgroup) {
  FreezeOnDeath watch;
  watch.process_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!watch.process_) return fail_errno("watch criu");
  watch.freeze_ = Fd(::open((cgroup + "/cgroup.freeze").c_str(), O_WRONLY | O_CLOEXEC));
  if (!watch.freeze_) return fail_errno("open " + cgroup + "/cgroup.freeze");
  watch.stop_ = Fd(::eventfd(0, EFD_CLOEXEC));
  if (!watch.stop_) return fail_errno("watch criu");
  watch.thread_ = std::thread([process = watch.process_.get(), freeze = watch.freeze_.get(), stop = watch.stop_.get()] {
    constexpr int kNice = -20;  // before the tasks themselves
    (void)::setpriority(PRIO_PROCESS, 0, kNice);
    pollfd polled[2] = {{stop, POLLIN, 0}, {process, POLLIN, 0}};
    while (::poll(polled, 2, -1) < 0 && errno == EINTR) {
    }
    if (polled[0].revents == 0) (void)!::write(freeze, "1", 1);
  });
  return watch;
}

FreezeOnDeath::~FreezeOnDeath() {
  if (!thread_.joinable()) return;
  (void)::eventfd_write(stop_.get(), 1);
  thread_.join();
}

}  // namespace lifeboat
