#include "migration/codec.hpp"

#include <lz4.h>
#include <zstd.h>

#include <vector>

namespace lifeboat {

using page_stream::Encoding;

namespace {

constexpr int kZstdLevel = 1;
constexpr int kLz4Acceleration = 1;

}  // namespace

struct Compressor::State {
  std::vector<std::uint64_t> lz4;  // aligned memory for LZ4's state
  std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> zstd{nullptr, ZSTD_freeCCtx};
};

Compressor::Compressor() : state_(std::make_unique<State>()) {}
Compressor::~Compressor() = default;

std::size_t Compressor::pack(Encoding encoding, std::span<const unsigned char> pages,
                             std::span<unsigned char> out) {
  if (encoding == Encoding::kLz4) {
    if (state_->lz4.empty()) {
      state_->lz4.resize((static_cast<std::size_t>(LZ4_sizeofState()) + 7) / sizeof(std::uint64_t));
    }
    const int size = LZ4_compress_fast_extState(
        state_->lz4.data(), reinterpret_cast<const char*>(pages.data()),
        reinterpret_cast<char*>(out.data()), static_cast<int>(pages.size()),
        static_cast<int>(out.size()), kLz4Acceleration);
    return size > 0 ? static_cast<std::size_t>(size) : 0;
  }
  if (encoding != Encoding::kZstd) return 0;
  if (!state_->zstd) state_->zstd.reset(ZSTD_createCCtx());
  if (!state_->zstd) return 0;
  const std::size_t size = ZSTD_compressCCtx(state_->zstd.get(), out.data(), out.size(), pages.data(),
                                             pages.size(), kZstdLevel);
  return ZSTD_isError(size) != 0 ? 0 : size;
}

struct Decompressor::State {
  std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> zstd{nullptr, ZSTD_freeDCtx};
};

Decompressor::Decompressor() : state_(std::make_unique<State>()) {}
Decompressor::~Decompressor() = default;

Status Decompressor::unpack(Encoding encoding, std::span<const unsigned char> packed,
                            std::span<unsigned char> pages) {
  bool good = false;
  if (encoding == Encoding::kLz4) {
    const int size = LZ4_decompress_safe(
        reinterpret_cast<const char*>(packed.data()), reinterpret_cast<char*>(pages.data()),
        static_cast<int>(packed.size()), static_cast<int>(pages.size()));
    good = size >= 0 && static_cast<std::size_t>(size) == pages.size();
  } else if (encoding == Encoding::kZstd) {
    if (!state_->zstd) state_->zstd.reset(ZSTD_createDCtx());
    if (!state_->zstd) return fail(Errc::kSystem, "no memory to decompress pages");
    // One call into the place itself: needs no window, however large the frame says it is.
    const std::size_t size = ZSTD_decompressDCtx(state_->zstd.get(), pages.data(), pages.size(),
                                                 packed.data(), packed.size());
    good = ZSTD_isError(size) == 0 && size == pages.size();
  }
  if (good) return {};
  return fail(Errc::kProtocol, "compressed pages that cannot be decompressed");
}

}  // namespace lifeboat
