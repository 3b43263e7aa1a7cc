// Kept frames as data: their order, their bounds, and what is on the wire.
#include "migration/hold.hpp"

#include <gtest/gtest.h>

#include "migration/protocol.hpp"

namespace lifeboat {
namespace {

std::vector<unsigned char> frame(std::size_t size, unsigned char content) {
  return std::vector<unsigned char>(size, content);
}

TEST(HeldFrames, ArriveAsTheyWereKept) {
  HeldFrames kept, arrived;
  kept.add(0, frame(60, 1));
  kept.add(1, frame(65535, 2));
  kept.add(0, frame(14, 3));
  for (const auto& payload : kept.encode(0)) ASSERT_TRUE(arrived.decode(payload).has_value());
  ASSERT_EQ(arrived.frames().size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(arrived.frames()[i].port, kept.frames()[i].port);
    EXPECT_EQ(arrived.frames()[i].bytes, kept.frames()[i].bytes);
  }
  EXPECT_EQ(arrived.bytes(), 60u + 65535 + 14);
  const auto rest = kept.encode(2);
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].size(), 4u + 14);
  EXPECT_TRUE(kept.encode(3).empty());
}

TEST(HeldFrames, AreBounded) {
  HeldFrames kept;
  kept.add(0, frame(13, 1));     // no Ethernet frame
  kept.add(0, frame(65536, 1));  // nor this
  EXPECT_EQ(kept.dropped(), 2u);
  for (int i = 0; i < 1000; ++i) kept.add(0, frame(9014, 1));
  EXPECT_EQ(kept.frames().size(), kHeldBytesMax / 9014);
  EXPECT_EQ(kept.dropped(), 2 + 1000 - kHeldBytesMax / 9014);
  const auto payloads = kept.encode(0);
  EXPECT_GT(payloads.size(), kHeldBytesMax / protocol::kDataBytesMax);
  for (const auto& payload : payloads) EXPECT_LE(payload.size(), protocol::kDataBytesMax);
}

TEST(HeldFrames, RefuseWhatIsNoFrame) {
  HeldFrames kept;
  kept.add(0, frame(60, 1));
  const auto good = kept.encode(0)[0];
  for (std::size_t size = 1; size < good.size(); ++size) {
    HeldFrames arrived;
    const Status decoded = arrived.decode(std::span(good).first(size));
    ASSERT_FALSE(decoded.has_value()) << size;
    EXPECT_EQ(decoded.error().code, Errc::kProtocol);
  }
  HeldFrames arrived;
  const std::vector<unsigned char> empty_frame{0, 0, 0, 0};
  EXPECT_FALSE(arrived.decode(empty_frame).has_value());
}

}  // namespace
}  // namespace lifeboat
