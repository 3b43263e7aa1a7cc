#include "criu_glue/ghost_layout.hpp"

#include "base/little_endian.hpp"
#include "criu_glue/files.pb.h"

namespace lifeboat {

namespace {

constexpr std::uint64_t kAll = UINT64_MAX;
constexpr std::size_t kMagicBytes = 8;
constexpr std::size_t kSizeBytes = 4;

}  // namespace

std::optional<ImagePart> GhostLayout::next(std::span<const unsigned char> bytes) {
  const auto give_up = [this] {
    at_ = At::kRest;
    return ImagePart{kAll, false};
  };
  if (at_ == At::kRest) return ImagePart{kAll, false};
  if (at_ == At::kContents) {
    at_ = At::kChunk;
    return ImagePart{contents_, true};
  }
  const std::size_t before = (at_ == At::kFile ? kMagicBytes : 0) + kSizeBytes;
  if (bytes.size() < before) return std::nullopt;
  const std::size_t size = get_le<std::uint32_t>(bytes.data() + before - kSizeBytes);
  if (size > kHeaderBytesMax - before) return give_up();
  if (bytes.size() < before + size) return std::nullopt;
  const unsigned char* const entry = bytes.data() + before;
  at_ = At::kContents;
  if (before > kSizeBytes) {
    criu::GhostFile file;
    if (!file.ParseFromArray(entry, static_cast<int>(size))) return give_up();
    if (file.chunks()) at_ = At::kChunk;
    contents_ = kAll;
  } else {
    criu::GhostChunk chunk;
    if (!chunk.ParseFromArray(entry, static_cast<int>(size)) || chunk.bytes() == 0) return give_up();
    contents_ = chunk.bytes();
  }
  return ImagePart{before + size, false};
}

}  // namespace lifeboat
