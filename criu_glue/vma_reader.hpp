// vma_reader.hpp - the mappings of a process with their flags, without a look at its page tables.
//
// /proc/PID/maps lists mappings but not their flags (locked, not to be forked, huge pages wanted...);
// smaps has them, but walks all page tables: 22 ms for a GB in 4K pages. A BPF iterator over the kernel's
// own list takes 0.03 ms for a process, whatever its size (both measured). What a flag means is the
// kernel's affair: the numbers are only good to see whether anything has changed.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/result.hpp"
#include "criu_glue/bpf_iterator.hpp"

namespace lifeboat {

struct Vma {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t flags = 0;
  std::uint64_t page_offset = 0;  // in the file, in pages
  bool operator==(const Vma&) const = default;
};

class VmaReader {
 public:
  // Loads the program: 20 to 40 ms, once. kUnavailable: this kernel has no such iterator (Linux 6.1, with
  // CONFIG_DEBUG_INFO_BTF), or does not let us.
  static Result<VmaReader> open();
  // In order of addresses. Of a process that does not run it is the whole truth.
  [[nodiscard]] Result<std::vector<Vma>> read(pid_t pid) const;

 private:
  explicit VmaReader(BpfIterator mappings) : mappings_(std::move(mappings)) {}
  BpfIterator mappings_;
};

}  // namespace lifeboat
