// page_record.hpp - the records of page_stream.hpp as bytes: header, hashes, limits. Pure.
//
// What the hash of a record covers is its header and, through the digest, what follows it; so a
// header that was damaged is no more believed than damaged pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.hpp"
#include "criu_glue/memory.hpp"

namespace lifeboat::page_stream {

inline constexpr std::uint32_t kMagic = 0x3250424c;  // "LBP2"
inline constexpr std::size_t kHeaderBytes = 40;
inline constexpr std::uint32_t kRunPagesMax = 128;  // pages in one Data or Copy record (512 KiB)
inline constexpr std::size_t kContentHashBytes = 8;
inline constexpr std::size_t kPlaceBytes = 16;  // of one page in a Copy record

enum class Kind : std::uint16_t {
  kInvalid = 0,
  kData = 1,
  kZero = 2,
  kMark = 3,
  kAck = 4,
  kWant = 5,
  kLack = 6,
  kLackEnd = 7,
  kCopy = 8,
};
enum class Encoding : std::uint16_t { kRaw = 0, kLz4 = 1, kZstd = 2 };

struct RecordHeader {
  Kind kind = Kind::kInvalid;
  Encoding encoding = Encoding::kRaw;
  std::uint32_t pid = 0;
  std::uint32_t pages = 0;
  std::uint64_t address = 0;
  std::uint32_t length = 0;
  std::uint64_t hash = 0;
};

// A page of a process.
struct PagePlace {
  std::uint32_t pid = 0;
  std::uint64_t address = 0;
  bool operator==(const PagePlace&) const = default;
};

// XXH3-128 of one page.
struct PageHash {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  bool operator==(const PageHash&) const = default;
};

[[nodiscard]] PageHash hash_page(const unsigned char* page);
// Of pages by their hashes: XXH3-64 of these, one after another.
[[nodiscard]] std::uint64_t content_hash(std::span<const PageHash> pages);
// The same from the pages themselves; at most kRunPagesMax.
[[nodiscard]] std::uint64_t content_hash(const unsigned char* bytes, std::uint32_t pages);
[[nodiscard]] std::uint64_t hash_bytes(const unsigned char* bytes, std::size_t size);

// Writes kHeaderBytes. `digest` stands for what follows: the content hash of raw pages, hash_bytes()
// of anything else, 0 of nothing. header.hash is not used.
void encode(const RecordHeader& header, std::uint64_t digest, unsigned char* out);
// kProtocol when this is no header, or one with values that can never be right.
Result<RecordHeader> decode(const unsigned char* in);
// Whether `in`, a header, and `digest` are as they were sent.
[[nodiscard]] bool is_intact(const unsigned char* in, std::uint64_t digest);

void encode(const PagePlace& place, unsigned char* out);  // kPlaceBytes
PagePlace decode_place(const unsigned char* in);

}  // namespace lifeboat::page_stream
