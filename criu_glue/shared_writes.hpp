// shared_writes.hpp - which pages of files that processes share by mapping them were written since their contents
// were read. It is for files that have no name and that nobody has a descriptor of: by their mappings alone they
// are written to, and these are tracked as private memory is (write_protect.hpp), in each process.
//
// It is never guessed. What would be seen by no mapping that is tracked makes a file unknown: a mapping that has
// come or gone, a process that was begun meanwhile (it has its parent's mappings, not tracked, and may have ended
// since: fork_counter.hpp), a call that opens, writes or cuts the file (inotify), direct I/O. What madvise() takes
// away counts as written from then on (removed_ranges.hpp; inotify is told of it for files of a tmpfs, not for
// anonymous memory). What would not be seen at all: a second mapping made of a first one by mremap() with an old size
// of 0, written and taken away again; a descriptor that is under way in a socket when watching begins, taken out,
// mapped and closed again.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/cgroup.hpp"
#include "base/fd.hpp"
#include "criu_glue/mappings.hpp"
#include "criu_glue/pagemap.hpp"
#include "criu_glue/removed_ranges.hpp"

namespace lifeboat {

struct SharedFile {
  std::string mapped_as;  // SharedMapping::file
  int fd = -1;            // for the time of watch()
};

class SharedWrites {
 public:
  // `init`: the first process of the container's pid namespace.
  SharedWrites(Cgroup cgroup, pid_t init) : cgroup_(std::move(cgroup)), init_(init) {}

  // From now on writes to these files are noted, as far as it is possible; what was noted before is forgotten. The
  // container runs, and stands still while its mappings and descriptors are listed. kSystem: it could not be let go on.
  // For each file's GB 10 to 20 ms; each first write to a page then costs the container about 1.1 microseconds, and
  // each madvise() that takes some of it away waits for a thread of this process.
  Status watch(const std::vector<SharedFile>& files);

  // Forgets the files of which it is not known any more what was written. What it leaves is known for certain only
  // if the container has been frozen and nobody has touched it since.
  void check();
  [[nodiscard]] bool knows(const std::string& mapped_as) const { return files_.contains(mapped_as); }
  // After that: the pages written since watch() or collect(), and perhaps more, in order and apart; nothing when it is
  // not known.
  [[nodiscard]] std::optional<std::vector<FileRange>> written(const std::string& mapped_as) const;
  // The same of a container that runs: from now on further writes are noted. It holds if the file is known in the end.
  [[nodiscard]] std::optional<std::vector<FileRange>> collect(const std::string& mapped_as);

 private:
  struct Process {
    Pagemap pagemap;
    Fd uffd;
  };
  // Of one file, in all processes, by process and address.
  using Mappings = std::vector<std::pair<pid_t, SharedMapping>>;
  using Files = std::map<std::string, Mappings>;

  // Processes that have ended have none; nothing when one cannot be looked at.
  [[nodiscard]] std::optional<Files> mappings_of_watched(const std::vector<pid_t>& pids) const;
  void attach(pid_t pid);
  void note_frozen();
  void forget_what_descriptors_reach(const std::vector<pid_t>& pids);
  void forget_with_events();
  [[nodiscard]] std::optional<std::vector<FileRange>> scan(const std::string& mapped_as, std::uint64_t flags) const;

  Cgroup cgroup_;
  pid_t init_;
  std::map<pid_t, Process> processes_;
  RemovedRanges removed_;  // of processes_
  Files files_;            // that are watched
  Fd events_;
  std::map<int, std::string> watched_by_;  // inotify's number
  std::uint64_t forks_ = 0;
};

}  // namespace lifeboat
