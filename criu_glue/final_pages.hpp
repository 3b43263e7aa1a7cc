// final_pages.hpp - the list of all pages of a container's processes, as the source sends it once they are
// frozen and the pager takes it.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat {

// Consecutive pages that exist in the process, within one mapping of it.
struct FinalPage {
  std::uint32_t pid;    // in the container
  std::uint32_t pages;
  std::uint64_t address;
  std::uint32_t later;  // 1: not to be used as it was received; comes when the container runs (post-copy)
  std::uint32_t reserved;
};

// kProtocol unless they are in order of {pid, address}, do not overlap and lie in an address space.
[[nodiscard]] Status check_final_pages(std::span<const FinalPage> entries);

}  // namespace lifeboat
