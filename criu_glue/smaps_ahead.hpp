// smaps_ahead.hpp - reads the list of mappings of frozen processes while CRIU is still busy with other
// things, so that it need not wait for it.
//
// CRIU takes the mappings from /proc/PID/smaps. For that the kernel walks all page tables: 22 ms for a
// GB in 4K pages, in the downtime (measured). Here threads do that from the moment of the freeze on,
// beside CRIU; liblifeboat-criu.so gives CRIU the text (hide_pages.h). As the processes are frozen, it
// is what CRIU would read.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "criu_glue/hide_list.hpp"

namespace lifeboat {

class SmapsAhead {
 public:
  // Starts to read. `list` and the processes must last as long as this object. What cannot be read
  // is left to CRIU.
  SmapsAhead(HideList& list, const std::vector<pid_t>& pids);
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
  std::vector<Text> texts_;
  std::atomic<std::size_t> next_{0};
  std::vector<std::thread> threads_;
};

}  // namespace lifeboat
