// little_endian.hpp - integers in the byte order of everything Lifeboat puts on a wire.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lifeboat {

template <class T>
void put_le(unsigned char* out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out[i] = static_cast<unsigned char>(value >> (8 * i));
}

template <class T>
[[nodiscard]] T get_le(const unsigned char* in) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= std::uint64_t{in[i]} << (8 * i);
  return static_cast<T>(value);
}

}  // namespace lifeboat
