// ghost_layout.hpp - where in CRIU's image of a file without a name (ghost-file-N.img) its contents lie: they
// begin at odd places, behind headers of some bytes each. Pure.
//
//   magic u32, magic u32, size u32, GhostFile of that size; then the contents as they are, or, with `chunks`,
//   any number of: size u32, GhostChunk of that size, its bytes
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace lifeboat {

struct ImagePart {
  std::uint64_t bytes = 0;
  bool contents = false;  // of the file, from the beginning of one of its pages on
};

class GhostLayout {
 public:
  // No header is longer.
  static constexpr std::size_t kHeaderBytesMax = 4096;

  // The part that begins where the last one ended. `bytes`: what the image has from there on, perhaps not
  // all of it yet. Nothing: that cannot be told from so few. What is not understood is one part, the rest.
  std::optional<ImagePart> next(std::span<const unsigned char> bytes);

 private:
  enum class At { kFile, kChunk, kContents, kRest };
  At at_ = At::kFile;
  std::uint64_t contents_ = 0;  // bytes of those that follow
};

}  // namespace lifeboat
