// codec.hpp - pages packed and unpacked by LZ4 and Zstandard (level 1). The states of the libraries
// are made once, at first use: at most 1.5 MiB to pack, 0.2 MiB to unpack.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.hpp"
#include "migration/page_record.hpp"

namespace lifeboat {

class Compressor {
 public:
  Compressor();
  ~Compressor();
  // Bytes written to `out`; 0 when it does not get as small as `out` is.
  std::size_t pack(page_stream::Encoding encoding, std::span<const unsigned char> pages,
                   std::span<unsigned char> out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Decompressor {
 public:
  Decompressor();
  ~Decompressor();
  // kProtocol when `packed` does not give exactly as many bytes as `pages` has. Writes nothing outside
  // of `pages`, whatever `packed` holds.
  Status unpack(page_stream::Encoding encoding, std::span<const unsigned char> packed,
                std::span<unsigned char> pages);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lifeboat
