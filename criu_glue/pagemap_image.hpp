// pagemap_image.hpp - reads CRIU's pagemap-PID.img: which pages of a process an image holds.
//
// CRIU marks pages of private anonymous memory as lazy even in an ordinary dump, and a lazy restore
// skips what is marked: it wants them from the pager. So after a dump whose memory was meant to be
// hidden, what is found here is what the pager must have, or the dump is not to be used.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace lifeboat {

// Consecutive pages; the addresses are those of the process.
struct LazyRange {
  std::uint32_t pid = 0;  // in the container
  std::uint64_t address = 0;
  std::uint64_t pages = 0;
  bool operator==(const LazyRange&) const = default;
};

struct PagemapImages {
  std::vector<LazyRange> lazy;     // skipped by a lazy restore; as in the images, by pid
  std::uint64_t eager_pages = 0;   // restored from the images, whatever the mode
  std::uint32_t processes = 0;     // images read
};

// Of the whole directory; kProtocol names the image that cannot be understood.
[[nodiscard]] Result<PagemapImages> read_pagemap_images(const std::string& directory);
// Just the ranges that a lazy restore would skip.
[[nodiscard]] Result<std::vector<LazyRange>> lazy_pages_in_images(const std::string& directory);

// One image, added to `images`. For tests.
[[nodiscard]] Status parse_pagemap_image(std::string_view bytes, std::uint32_t pid,
                                         PagemapImages& images);

}  // namespace lifeboat
