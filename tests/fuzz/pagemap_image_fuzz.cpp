// CRIU's pagemap images: what is said to be lazy lies in a process's address space.
#include "criu_glue/pagemap_image.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  PagemapImages images;
  const Status parsed = parse_pagemap_image(fuzz::text(data, size), 7, images);
  fuzz::require_good(parsed);
  fuzz::require(images.lazy.size() <= size, "no more ranges than bytes");
  for (const LazyRange& range : images.lazy) {
    fuzz::require(range.pid == 7 && range.pages > 0 && range.address % 4096 == 0,
                  "a range is one of pages");
    fuzz::require(range.pages <= ((1ULL << 56) - range.address) / 4096,
                  "a range ends within the address space");
  }
  return 0;
}
