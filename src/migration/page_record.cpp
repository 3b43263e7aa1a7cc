#include "migration/page_record.hpp"

#include <array>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/little_endian.hpp"

namespace lifeboat::page_stream {

namespace {

constexpr std::uint64_t kAddressMax = 1ULL << 56;
constexpr std::size_t kHashAt = 32;

std::uint64_t seal(const unsigned char* header, std::uint64_t digest) {
  unsigned char sealed[kHeaderBytes];
  std::memcpy(sealed, header, kHashAt);
  put_le<std::uint64_t>(sealed + kHashAt, digest);
  return XXH3_64bits(sealed, sizeof sealed);
}

bool data_length_right(const RecordHeader& header) {
  const std::uint64_t raw = header.pages * kPageBytes;
  switch (header.encoding) {
    case Encoding::kRaw: return header.length == raw;
    case Encoding::kLz4:
    case Encoding::kZstd: return header.length > kContentHashBytes && header.length < raw;
  }
  return false;
}

bool possible(const RecordHeader& header) {
  const bool pages_right = header.pages > 0 && header.pages <= kChunkPages &&
                           header.address % kPageBytes == 0 && header.address < kAddressMax &&
                           header.address % kChunkBytes + header.pages * kPageBytes <= kChunkBytes;
  if (header.kind != Kind::kData && header.encoding != Encoding::kRaw) return false;
  switch (header.kind) {
    case Kind::kData:
      return pages_right && header.pages <= kRunPagesMax && data_length_right(header);
    case Kind::kCopy:
      return pages_right && header.pages <= kRunPagesMax &&
             header.length == kContentHashBytes + header.pages * kPlaceBytes;
    case Kind::kZero: return pages_right && header.length == 0;
    case Kind::kWant:
    case Kind::kLack:
      return header.pages > 0 && header.address % kPageBytes == 0 && header.address < kAddressMax &&
             header.length == 0;
    case Kind::kMark:
    case Kind::kAck:
    case Kind::kLackEnd: return header.length == 0;
    case Kind::kInvalid: return false;
  }
  return false;
}

}  // namespace

PageHash hash_page(const unsigned char* page) {
  const XXH128_hash_t hash = XXH3_128bits(page, kPageBytes);
  return {hash.low64, hash.high64};
}

std::uint64_t content_hash(std::span<const PageHash> pages) {
  std::array<unsigned char, kRunPagesMax * sizeof(PageHash)> bytes;
  std::size_t size = 0;
  for (const PageHash& page : pages.first(std::min<std::size_t>(pages.size(), kRunPagesMax))) {
    put_le<std::uint64_t>(bytes.data() + size, page.low);
    put_le<std::uint64_t>(bytes.data() + size + 8, page.high);
    size += sizeof page;
  }
  return XXH3_64bits(bytes.data(), size);
}

std::uint64_t content_hash(const unsigned char* bytes, std::uint32_t pages) {
  std::array<PageHash, kRunPagesMax> hashes;
  pages = std::min(pages, kRunPagesMax);
  for (std::uint32_t i = 0; i < pages; ++i) hashes[i] = hash_page(bytes + i * kPageBytes);
  return content_hash(std::span<const PageHash>(hashes).first(pages));
}

std::uint64_t hash_bytes(const unsigned char* bytes, std::size_t size) {
  return XXH3_64bits(bytes, size);
}

void encode(const RecordHeader& header, std::uint64_t digest, unsigned char* out) {
  put_le<std::uint32_t>(out, kMagic);
  put_le<std::uint16_t>(out + 4, static_cast<std::uint16_t>(header.kind));
  put_le<std::uint16_t>(out + 6, static_cast<std::uint16_t>(header.encoding));
  put_le<std::uint32_t>(out + 8, header.pid);
  put_le<std::uint32_t>(out + 12, header.pages);
  put_le<std::uint64_t>(out + 16, header.address);
  put_le<std::uint32_t>(out + 24, header.length);
  put_le<std::uint32_t>(out + 28, 0);
  put_le<std::uint64_t>(out + kHashAt, seal(out, digest));
}

Result<RecordHeader> decode(const unsigned char* in) {
  if (get_le<std::uint32_t>(in) != kMagic || get_le<std::uint32_t>(in + 28) != 0) {
    return fail(Errc::kProtocol, "not a page record (wrong magic)");
  }
  RecordHeader header;
  header.kind = static_cast<Kind>(get_le<std::uint16_t>(in + 4));
  header.encoding = static_cast<Encoding>(get_le<std::uint16_t>(in + 6));
  header.pid = get_le<std::uint32_t>(in + 8);
  header.pages = get_le<std::uint32_t>(in + 12);
  header.address = get_le<std::uint64_t>(in + 16);
  header.length = get_le<std::uint32_t>(in + 24);
  header.hash = get_le<std::uint64_t>(in + kHashAt);
  if (possible(header)) return header;
  return fail(Errc::kProtocol, "a page record of kind " +
                                   std::to_string(static_cast<unsigned>(header.kind)) +
                                   " with impossible values");
}

bool is_intact(const unsigned char* in, std::uint64_t digest) {
  return get_le<std::uint64_t>(in + kHashAt) == seal(in, digest);
}

void encode(const PagePlace& place, unsigned char* out) {
  put_le<std::uint64_t>(out, place.address);
  put_le<std::uint32_t>(out + 8, place.pid);
  put_le<std::uint32_t>(out + 12, 0);
}

PagePlace decode_place(const unsigned char* in) {
  return {get_le<std::uint32_t>(in + 8), get_le<std::uint64_t>(in)};
}

}  // namespace lifeboat::page_stream
