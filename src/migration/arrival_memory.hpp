// arrival_memory.hpp - how much memory a container needs while it arrives, and how much of that it has
// taken already.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "container.hpp"

namespace lifeboat {

struct ArrivalMemory {
  std::uint64_t received_max = 0;  // the pager's stores, or CRIU's images, take no more
  std::uint64_t reserved = 0;      // with what is restored meanwhile
};

// Of a container with `resident` bytes when it made its offer. `pages`: they come to a pager, which
// gives its memory back as it fills that of the processes; else images and restored memory are there
// at the same time.
[[nodiscard]] ArrivalMemory arrival_memory(std::uint64_t resident, bool pages);

// Counts what is in use: by the restored processes, the pager (`pager`: its pid, -1: none) and the
// images.
[[nodiscard]] std::function<std::uint64_t()> arrival_memory_counter(std::weak_ptr<Container> container,
                                                                    pid_t pager, std::string images);

}  // namespace lifeboat
