// mappings.hpp - which memory of a process Lifeboat carries itself.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat {

// The mappings of a process that CRIU's restore registers for lazy pages: private and anonymous, not
// locked, not huge-TLB, none of the kernel's own ([vdso], [vvar], [vsyscall]). Sorted, one by one: the
// pager must not copy across their borders. kNotFound when the process is gone. See
// vma_entry_can_be_lazy() in CRIU's sources.
Result<std::vector<AddressRange>> owned_mappings(pid_t pid);

// Smaller mappings are not worth tracking: they are sent whole at the end.
inline constexpr std::uint64_t kTrackedMappingMin = 256U << 10;

// All of a file in /proc, whose length is not known beforehand. kNotFound when the process is gone.
Result<std::string> read_proc(const std::string& path);

}  // namespace lifeboat
