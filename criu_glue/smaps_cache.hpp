// smaps_cache.hpp - /proc/PID/smaps of running processes, kept for the moment at which they are frozen.
//
// CRIU needs it, and to read it takes long (vma_reader.hpp). What it says of mappings does not change as
// long as the kernel's list of them does not; the amounts of memory in it do, but CRIU does not look at
// those. So it is read while the container runs, and is good if the list was the same before and after
// that, and is still the same in the freeze.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <vector>

#include "base/fd.hpp"
#include "criu_glue/vma_reader.hpp"

namespace lifeboat {

class SmapsCache {
 public:
  // Reads what has changed since the last time, and forgets all other processes. Blocks: 22 ms per GB;
  // the first time in this process 40 ms more. Best effort.
  void look(const std::vector<pid_t>& pids);
  // The text, in a memfd, if it is what smaps would say now; the process does not run. Empty: it is not.
  Fd take(pid_t pid);

 private:
  struct Entry {
    std::vector<Vma> mappings;
    std::uint64_t names = 0;  // a hash of the text of /proc/PID/maps
    Fd text;
  };
  std::map<pid_t, Entry> entries_;
};

// Copies smaps of a process to a file; false if it cannot be read. The names are hashed as
// names_hash() does.
bool copy_smaps(pid_t pid, int to, std::uint64_t* names);
// Of the text of /proc/PID/maps; 0 if it cannot be read.
std::uint64_t names_hash(pid_t pid);

}  // namespace lifeboat
