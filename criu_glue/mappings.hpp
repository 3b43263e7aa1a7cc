// mappings.hpp - which memory of a process Lifeboat carries itself.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/result.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat {

// The mappings of a process that CRIU's restore registers for lazy pages: private and anonymous, not
// locked, not huge-TLB, none of the kernel's own ([vdso], [vvar], [vsyscall]). Sorted, one by one: the
// pager must not copy across their borders. kNotFound when the process is gone. See
// vma_entry_can_be_lazy() in CRIU's sources.
Result<std::vector<AddressRange>> owned_mappings(pid_t pid);

// A mapping whose pages CRIU puts into its images.
struct ImagedMapping {
  AddressRange range;
  bool shared = false;   // its file, which has no name (any more), goes into an image as a whole
  std::string file;      // of a shared one: "device inode", the same wherever it is mapped
  std::uint64_t offset = 0;  // of a shared one: where in the file it begins
  bool operator==(const ImagedMapping&) const = default;
};

// Files of shared memory, and private mappings that are not owned (files' pages that the process wrote to;
// locked memory). kNotFound when the process is gone.
Result<std::vector<ImagedMapping>> imaged_mappings(pid_t pid);

// The file of a mapping, for reading, and the name that it has or had, as the process sees it; no descriptor when
// it is mapped there no more.
struct OpenedMapping {
  Fd fd;
  std::string name;
};
OpenedMapping open_mapped(pid_t pid, AddressRange range);

// Smaller mappings are not worth tracking: they are sent whole at the end.
inline constexpr std::uint64_t kTrackedMappingMin = 256U << 10;

// All of a file in /proc, whose length is not known beforehand. kNotFound when the process is gone.
Result<std::string> read_proc(const std::string& path);

}  // namespace lifeboat
