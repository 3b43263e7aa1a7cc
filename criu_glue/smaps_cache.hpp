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
#include <memory>
#include <vector>

#include "base/fd.hpp"
#include "criu_glue/vma_reader.hpp"

namespace lifeboat {

class SmapsCache {
 public:
  SmapsCache();
  ~SmapsCache();
  // Reads what has changed since the last time. Blocks: 22 ms per GB. Best effort.
  void look(const std::vector<pid_t>& pids);
  // The text, in a memfd, if it is what smaps would say now; the process does not run. Empty: it is not.
  Fd take(pid_t pid);

 private:
  struct Entry {
    std::vector<Vma> mappings;
    std::uint64_t names = 0;  // a hash of the text of /proc/PID/maps
    Fd text;
  };
  std::unique_ptr<VmaReader> reader_;  // null: this kernel has none, and nothing is kept
  std::map<pid_t, Entry> entries_;
};

// Copies smaps of a process to a file; false if it cannot be read. The names are hashed as
// names_hash() does.
bool copy_smaps(pid_t pid, int to, std::uint64_t* names);
// Of the text of /proc/PID/maps; 0 if it cannot be read.
std::uint64_t names_hash(pid_t pid);

}  // namespace lifeboat
