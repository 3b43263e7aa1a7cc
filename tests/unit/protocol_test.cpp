// The wire format: what is sent is what is read, and nothing else is accepted.
#include "migration/protocol.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace lifeboat::protocol {
namespace {

constexpr Kind kKinds[] = {Kind::kHello,     Kind::kRequest,   Kind::kResponse, Kind::kFailed,
                           Kind::kOffer,     Kind::kAccepted,  Kind::kImageOpen, Kind::kImageData,
                           Kind::kImageEnd,  Kind::kStaged,    Kind::kCommit,   Kind::kRunning,
                           Kind::kPages,     Kind::kFinalPages, Kind::kMemoryEnd,
                           Kind::kHeldFrames, Kind::kHeldEnd,   Kind::kImagePages, Kind::kImageKnown,
                           Kind::kLayer,      Kind::kLayerEnd,   Kind::kLayersTaken};

struct Raw {
  unsigned char bytes[kHeaderBytes] = {};
};

Raw raw(Kind kind, std::uint32_t length) {
  Raw out;
  encode(Header{kind, length}, out.bytes);
  return out;
}

std::string refused(const Raw& header) {
  const auto decoded = decode(header.bytes);
  EXPECT_FALSE(decoded.has_value());
  if (decoded) return {};
  EXPECT_EQ(decoded.error().code, Errc::kProtocol);
  return decoded.error().message;
}

std::size_t limit(Kind kind) {
  if (kind == Kind::kHello) return kHelloBytesMax;
  if (kind == Kind::kFinalPages || kind == Kind::kHeldFrames ||
      kind == Kind::kLayer) return kDataBytesMax;
  // 128 pages of 4 KiB, a number each.
  if (kind == Kind::kImageKnown) return kDataHeaderBytes + 128 * 4;
  const bool data = kind == Kind::kImageData || kind == Kind::kImagePages;
  return data ? kDataHeaderBytes + kDataBytesMax : kJsonBytesMax;
}

TEST(Protocol, HeaderIsLittleEndian) {
  const Raw header = raw(Kind::kImageData, 0x00012345);
  const unsigned char expected[] = {'L', 'B', 'T', '1', 19, 0, 0, 0, 0x45, 0x23, 0x01, 0x00};
  EXPECT_TRUE(std::equal(std::begin(expected), std::end(expected), header.bytes));
}

TEST(Protocol, EveryKindUpToItsLimit) {
  for (Kind kind : kKinds) {
    for (std::size_t length : {std::size_t{0}, std::size_t{1}, limit(kind)}) {
      const Raw header = raw(kind, static_cast<std::uint32_t>(length));
      const auto decoded = decode(header.bytes);
      ASSERT_TRUE(decoded.has_value()) << to_string(kind) << ": " << decoded.error().message;
      EXPECT_EQ(decoded->kind, kind);
      EXPECT_EQ(decoded->length, length);
    }
    const std::size_t over = limit(kind) + 1;
    EXPECT_EQ(refused(raw(kind, static_cast<std::uint32_t>(over))),
              "a " + std::string(to_string(kind)) + " frame of " + std::to_string(over) +
                  " bytes; at most " + std::to_string(limit(kind)) + " are allowed");
    (void)refused(raw(kind, 0xffffffff));
  }
}

TEST(Protocol, NoOtherKindExists) {
  for (unsigned number = 0; number <= 0xffff; ++number) {
    const auto kind = static_cast<Kind>(number);
    const bool known = std::find(std::begin(kKinds), std::end(kKinds), kind) != std::end(kKinds);
    const Raw header = raw(kind, 0);
    ASSERT_EQ(decode(header.bytes).has_value(), known) << number;
    EXPECT_EQ(to_string(kind) == "unknown", !known && kind != Kind::kInvalid);
  }
  EXPECT_EQ(refused(raw(static_cast<Kind>(99), 0)),
            "unknown frame kind 99; is the peer's Lifeboat newer than this one?");
}

TEST(Protocol, GarbageIsRefused) {
  Raw header;
  EXPECT_EQ(refused(header), "the peer does not speak Lifeboat's protocol (wrong magic)");
  for (std::size_t i : {0U, 1U, 2U, 3U, 6U, 7U}) {  // magic and reserved bytes
    for (unsigned bit = 0; bit < 8; ++bit) {
      header = raw(Kind::kHello, 10);
      header.bytes[i] = static_cast<unsigned char>(header.bytes[i] ^ (1U << bit));
      (void)refused(header);
    }
  }
}

TEST(Protocol, DataHeaderRoundTrip) {
  DataHeader header;
  header.file = 0x01020304;
  header.offset = 0x1122334455667788;
  header.hash = 0xfedcba9876543210;
  unsigned char bytes[kDataHeaderBytes] = {};
  encode(header, bytes);
  const DataHeader again = decode_data(bytes);
  EXPECT_EQ(again.file, header.file);
  EXPECT_EQ(again.offset, header.offset);
  EXPECT_EQ(again.hash, header.hash);
}

}  // namespace
}  // namespace lifeboat::protocol
