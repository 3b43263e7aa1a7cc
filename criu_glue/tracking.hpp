// tracking.hpp - the ways of telling which pages of a process were written.
#pragma once

namespace lifeboat {

enum class Tracking {
  kAuto,         // the best that the kernel and the process allow
  kUserfaultfd,  // write-protection by userfaultfd: Linux 6.7
  kSoftDirty,    // the kernel's soft-dirty bits: CONFIG_MEM_SOFT_DIRTY
  kNone,
};
const char* to_string(Tracking tracking);

}  // namespace lifeboat
