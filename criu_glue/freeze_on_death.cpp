#include "criu_glue/freeze_on_death.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace lifeboat {

Result<FreezeOnDeath> FreezeOnDeath::watch(pid_t pid, Cgroup cgroup) {
  FreezeOnDeath watch;
  watch.process_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!watch.process_) return fail_errno("watch criu");
  watch.stop_ = Fd(::eventfd(0, EFD_CLOEXEC));
  if (!watch.stop_) return fail_errno("watch criu");
  watch.thread_ = std::thread([process = watch.process_.get(), stop = watch.stop_.get(), cgroup = std::move(cgroup)] {
    constexpr int kNice = -20;  // before the tasks themselves
    (void)::setpriority(PRIO_PROCESS, 0, kNice);
    pollfd polled[2] = {{stop, POLLIN, 0}, {process, POLLIN, 0}};
    while (::poll(polled, 2, -1) < 0 && errno == EINTR) {
    }
    if (polled[0].revents == 0) (void)cgroup.hold();
  });
  return watch;
}

FreezeOnDeath::~FreezeOnDeath() {
  if (!thread_.joinable()) return;
  (void)::eventfd_write(stop_.get(), 1);
  thread_.join();
}

}  // namespace lifeboat
