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

// A shared mapping of a file that has no name (any more), which CRIU puts into its images as a whole.
struct SharedMapping {
  AddressRange range;
  std::string file;          // "device inode", the same wherever it is mapped
  std::uint64_t offset = 0;  // where in the file it begins
  bool operator==(const SharedMapping&) const = default;
};
// In order of addresses. kNotFound when the process is gone.
Result<std::vector<SharedMapping>> shared_mappings(pid_t pid);

// Private mappings that are not owned: of files, whose pages that the process wrote to CRIU puts into its images,
// and locked memory. kNotFound when the process is gone.
Result<std::vector<AddressRange>> imaged_mappings(pid_t pid);

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
