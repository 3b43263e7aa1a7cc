#include "criu_glue/held_threads.hpp"

#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace lifeboat {

namespace fs = std::filesystem;

HeldThreads::HeldThreads(pid_t pid, pid_t except) {
  // Until a look finds no new ones: who is held makes none.
  constexpr int kLooksMax = 20;
  for (int i = 0; i < kLooksMax && hold_more(pid, except) > 0; ++i) {
  }
}

std::size_t HeldThreads::hold_more(pid_t pid, pid_t except) {
  const std::size_t before = threads_.size();
  std::error_code error;
  fs::directory_iterator at("/proc/" + std::to_string(pid) + "/task", error);
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const auto tid = static_cast<pid_t>(std::strtol(at->path().filename().c_str(), nullptr, 10));
    const bool known = std::any_of(threads_.begin(), threads_.end(),
                                   [&](const Thread& thread) { return thread.tid == tid; });
    if (tid == except || known || ::ptrace(PTRACE_SEIZE, tid, 0, 0) != 0) continue;
    (void)::ptrace(PTRACE_INTERRUPT, tid, 0, 0);
    threads_.push_back({tid, false, 0});
  }
  for (std::size_t i = before; i < threads_.size(); ++i) wait_for(threads_[i]);
  return threads_.size() - before;
}

void HeldThreads::wait_for(Thread& thread) {
  constexpr int kTries = 2500;  // of 20 us
  for (int i = 0; i < kTries; ++i) {
    int status = 0;
    const pid_t found = ::waitpid(thread.tid, &status, __WALL | WNOHANG);
    if (found < 0 || (found > 0 && !WIFSTOPPED(status))) return;  // it has ended
    if (found > 0) {
      thread.stopped = true;
      if (status >> 16 == 0) thread.signal = WSTOPSIG(status);
      return;
    }
    ::usleep(20);
  }
}

HeldThreads::~HeldThreads() {
  for (Thread& thread : threads_) {
    // Only a stopped one can be let go.
    if (!thread.stopped) wait_for(thread);
    if (thread.stopped) (void)::ptrace(PTRACE_DETACH, thread.tid, 0, thread.signal);
  }
}

}  // namespace lifeboat
