// held_threads.hpp - stops a process's threads for a moment, all but one.
#pragma once

#include <sys/types.h>

#include <vector>

namespace lifeboat {

// While this exists, no thread of the process but `except` runs: nobody can fork, and so give a child
// a copy of a descriptor that is only there for a moment. By ptrace: made, and dropped, on the thread
// that traces `except`. A thread that waits in the kernel for longer than 50 ms is not waited for.
class HeldThreads {
 public:
  HeldThreads(pid_t pid, pid_t except);
  ~HeldThreads();
  HeldThreads(const HeldThreads&) = delete;
  HeldThreads& operator=(const HeldThreads&) = delete;

 private:
  struct Thread {
    pid_t tid;
    bool stopped;
    int signal;  // it was about to get; 0: none
  };
  // Returns how many were not held before.
  std::size_t hold_more(pid_t pid, pid_t except);
  static void wait_for(Thread& thread);
  std::vector<Thread> threads_;
};

}  // namespace lifeboat
