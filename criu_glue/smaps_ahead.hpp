// smaps_ahead.hpp - the list of mappings of frozen processes, for CRIU, which need not wait for it.
//
// CRIU takes the mappings from /proc/PID/smaps; liblifeboat-criu.so gives it the text (hide_pages.h). What
// the cache has is there at once. What it has not is read by threads from the moment of the freeze on,
// beside CRIU; as the processes are frozen, it is what CRIU would read.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "criu_glue/hide_list.hpp"
#include "criu_glue/smaps_cache.hpp"

namespace lifeboat {

class SmapsAhead {
 public:
  // `list` and the processes must last as long as this object. What cannot be read is left to CRIU.
  SmapsAhead(HideList& list, SmapsCache& cache, const std::vector<pid_t>& pids);
  SmapsAhead(const SmapsAhead&) = delete;
  ~SmapsAhead();

 private:
  struct Text {
    pid_t pid;
    Fd memory;
    std::size_t slot;  // in the list
  };
  void read_all();

  HideList* list_;
  std::vector<Text> known_;
  std::vector<Text> wanted_;
  std::atomic<std::size_t> next_{0};
  std::vector<std::jthread> threads_;
};

}  // namespace lifeboat
