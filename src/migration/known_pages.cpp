#include "migration/known_pages.hpp"

#include <cstring>
#include <limits>

namespace lifeboat {

std::optional<std::uint32_t> KnownPages::find(const PageHash& hash) const {
  const auto found = numbers_.find(hash);
  if (found == numbers_.end()) return std::nullopt;
  return found->second;
}

bool KnownPages::add(const PageHash& hash) {
  if (numbers_.size() >= pages_max_ || numbers_.size() == std::numeric_limits<std::uint32_t>::max()) return false;
  return numbers_.emplace(hash, size()).second;
}

Status PageShelf::append(std::uint64_t first, const unsigned char* bytes, std::size_t size) {
  if (first != pages_ || size % kPageBytes != 0) {
    return fail(Errc::kProtocol, "pages of images are out of order, or not whole");
  }
  if (pages_ * kPageBytes + size > bytes_max_) {
    return fail(Errc::kRefused, "pages of images exceed the " + std::to_string(bytes_max_) +
                                    " bytes that were reserved for them");
  }
  for (std::size_t at = 0; at < size; at += kPageBytes, ++pages_) {
    const std::uint64_t in_block = pages_ % kChunkPages;
    if (in_block == 0) blocks_.push_back(std::make_unique_for_overwrite<unsigned char[]>(kChunkBytes));
    std::memcpy(blocks_.back().get() + in_block * kPageBytes, bytes + at, kPageBytes);
  }
  return {};
}

Status PageShelf::copy(std::uint32_t number, unsigned char* out) const {
  if (number >= pages_) return fail(Errc::kProtocol, "an image has a page that was never sent");
  const unsigned char* block = blocks_[number / kChunkPages].get();
  std::memcpy(out, block + number % kChunkPages * kPageBytes, kPageBytes);
  return {};
}

}  // namespace lifeboat
