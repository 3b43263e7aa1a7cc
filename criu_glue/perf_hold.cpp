#include "criu_glue/perf_hold.hpp"

#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace lifeboat {

PerfHold::PerfHold() {
  perf_event_attr attributes{};
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_SOFTWARE;
  attributes.config = PERF_COUNT_SW_DUMMY;
  attributes.disabled = 1;
  attributes.exclude_kernel = 1;
  constexpr pid_t kThisProcess = 0;
  constexpr int kAnyCpu = -1;
  constexpr int kNoGroup = -1;
  fd_.reset(static_cast<int>(::syscall(SYS_perf_event_open, &attributes, kThisProcess, kAnyCpu,
                                       kNoGroup, PERF_FLAG_FD_CLOEXEC)));
  if (!fd_) reason_ = std::string("perf_event_open: ") + std::strerror(errno);
}

}  // namespace lifeboat
