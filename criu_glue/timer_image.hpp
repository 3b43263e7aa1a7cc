// timer_image.hpp - mends what CRIU forgets of timers.
//
// A periodic timerfd that has expired and not been read stands still until it is: the kernel counts on then
// (fs/timerfd.c). CRIU (4.2.1) finds no time left and restores it disarmed: it wakes its
// program once more, for what it had counted, and never again.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace lifeboat {

// Lets each such timer in an image directory go on after one more interval. Before CRIU reads it.
[[nodiscard]] Status rearm_timers(const std::string& directory);

// The content of a files.img with them mended; empty: nothing to mend. kProtocol: it is none.
[[nodiscard]] Result<std::optional<std::string>> with_timers_rearmed(std::string_view image);

}  // namespace lifeboat
