// perf_hold.hpp - keeps the kernel's switch for task perf events on.
//
// CRIU stops its tasks with hardware breakpoints. The first such event in the system makes the
// kernel wait until every CPU has noticed (12-16 ms, in the middle of the dump and of the restore),
// and the last one switches it off again. While some other event exists, they cost nothing.
#pragma once

#include <string>

#include "base/fd.hpp"

namespace lifeboat {

class PerfHold {
 public:
  // Opens an event of this process that counts nothing. Best effort: see reason().
  PerfHold();
  [[nodiscard]] bool held() const { return fd_.valid(); }
  // Why it is not held; empty when it is.
  [[nodiscard]] const std::string& reason() const { return reason_; }

 private:
  Fd fd_;
  std::string reason_;
};

}  // namespace lifeboat
