// Whether to compress, from measurements that are made up here; and that packing is undone exactly.
#include "migration/compression.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "migration/codec.hpp"

namespace lifeboat {
namespace {

using page_stream::Encoding;

// A connection as simple as the model in compression.hpp, a batch at a time.
struct Wire {
  double bytes_per_s = 0;
  double work_s = 0.5e-9;  // per byte of pages
  double ratio[3] = {1, 1, 1};
  double packing_s[3] = {0, 2e-9, 3e-9};  // per byte of pages
  int trials = 0;
  double packing_total_s = 0;
  double total_s = 0;

  // Sends so many bytes; returns how many of them went compressed.
  std::uint64_t send(CompressionControl& control, std::uint64_t bytes) {
    constexpr std::uint64_t kBatch = 512U << 10;
    std::uint64_t compressed = 0;
    for (std::uint64_t at = 0; at < bytes; at += kBatch) {
      CompressionControl::Sent sent;
      sent.raw_bytes = kBatch;
      if (control.take_trial()) {
        ++trials;
        for (const Encoding encoding : {Encoding::kLz4, Encoding::kZstd}) {
          if (encoding != control.encoding()) {
            sent.packing_s += pack(control, encoding, CompressionControl::kTrialBytes);
          }
        }
      }
      const Encoding encoding = control.encoding();
      const auto index = static_cast<std::size_t>(encoding);
      if (encoding != Encoding::kRaw) {
        sent.packing_s += pack(control, encoding, kBatch);
        compressed += kBatch;
      }
      sent.wire_bytes = static_cast<std::uint64_t>(ratio[index] * kBatch);
      const double busy = work_s * kBatch + sent.packing_s;
      sent.seconds = std::max(busy, static_cast<double>(sent.wire_bytes) / bytes_per_s);
      sent.waiting_s = sent.seconds - busy;
      packing_total_s += sent.packing_s;
      total_s += sent.seconds;
      control.sent(sent);
    }
    return compressed;
  }

 private:
  double pack(CompressionControl& control, Encoding encoding, std::uint64_t bytes) {
    const auto index = static_cast<std::size_t>(encoding);
    const double seconds = packing_s[index] * static_cast<double>(bytes);
    control.packed(encoding, bytes, static_cast<std::uint64_t>(ratio[index] * static_cast<double>(bytes)),
                   seconds);
    return seconds;
  }
};

constexpr std::uint64_t kGiB = 1U << 30;
constexpr double k1G = 118e6 / 2;    // one of two connections
constexpr double k10G = 1170e6 / 2;

TEST(CompressionControl, HelpsOnASlowWire) {
  CompressionControl control(CompressionMode::kAuto);
  Wire wire;
  wire.bytes_per_s = k1G;
  wire.ratio[1] = 0.5, wire.ratio[2] = 0.4;
  EXPECT_GT(wire.send(control, kGiB), kGiB * 9 / 10);
  EXPECT_EQ(control.encoding(), Encoding::kZstd);  // shrinks more, and there is time for it
  EXPECT_LT(wire.total_s, 0.5 * kGiB / k1G);
}

TEST(CompressionControl, TakesTheOneThatIsFaster) {
  CompressionControl control(CompressionMode::kAuto);
  Wire wire;
  wire.bytes_per_s = 250e6;
  wire.ratio[1] = 0.5, wire.ratio[2] = 0.45;
  wire.packing_s[2] = 6e-9;  // slower than the wire
  wire.send(control, kGiB);
  EXPECT_EQ(control.encoding(), Encoding::kLz4);
}

TEST(CompressionControl, LeavesIncompressibleMemoryAlone) {
  CompressionControl control(CompressionMode::kAuto);
  Wire wire;
  wire.bytes_per_s = k10G;
  EXPECT_EQ(wire.send(control, 8 * kGiB), 0U);
  EXPECT_GT(wire.trials, 2);
  EXPECT_LT(wire.packing_total_s, 0.01 * wire.work_s * 8 * kGiB);  // of the processor's work
  EXPECT_LT(wire.total_s, 1.001 * 8 * kGiB / k10G);
}

TEST(CompressionControl, DoesNotTryWhereNothingWaits) {
  CompressionControl control(CompressionMode::kAuto);
  Wire wire;
  wire.bytes_per_s = 10e9;
  wire.ratio[1] = wire.ratio[2] = 0.1;
  EXPECT_EQ(wire.send(control, 4 * kGiB), 0U);
  EXPECT_EQ(wire.trials, 0);
}

TEST(CompressionControl, SlowCompressionDoesNotPayOnAFastWire) {
  CompressionControl control(CompressionMode::kAuto);
  Wire wire;
  wire.bytes_per_s = k10G;
  wire.ratio[1] = wire.ratio[2] = 0.5;
  EXPECT_EQ(wire.send(control, 4 * kGiB), 0U);
}

TEST(CompressionControl, FollowsTheMemory) {
  CompressionControl control(CompressionMode::kAuto);
  Wire wire;
  wire.bytes_per_s = k1G;
  wire.send(control, kGiB);
  EXPECT_EQ(control.encoding(), Encoding::kRaw);
  wire.ratio[1] = wire.ratio[2] = 0.3;
  wire.send(control, kGiB);
  EXPECT_NE(control.encoding(), Encoding::kRaw);
  wire.ratio[1] = wire.ratio[2] = 1;
  wire.send(control, kGiB / 8);
  EXPECT_EQ(control.encoding(), Encoding::kRaw);
}

TEST(CompressionControl, FollowsTheWire) {
  CompressionControl control(CompressionMode::kAuto);
  Wire wire;
  wire.bytes_per_s = k1G;
  wire.ratio[1] = wire.ratio[2] = 0.1;
  wire.send(control, kGiB);
  ASSERT_NE(control.encoding(), Encoding::kRaw);
  wire.bytes_per_s = 10e9;  // another migration has ended
  wire.send(control, 8 * kGiB);
  EXPECT_EQ(control.encoding(), Encoding::kRaw);
}

TEST(CompressionControl, KnowsItsLimit) {
  CompressionControl control(CompressionMode::kAuto);
  Wire wire;
  control.limited(static_cast<std::uint64_t>(k1G));
  wire.bytes_per_s = k1G;
  wire.ratio[1] = wire.ratio[2] = 0.3;
  wire.send(control, kGiB / 4);
  ASSERT_NE(control.encoding(), Encoding::kRaw);
  control.limited(static_cast<std::uint64_t>(k1G / 2));
  control.limited(static_cast<std::uint64_t>(k1G));
  EXPECT_NE(control.encoding(), Encoding::kRaw);  // as between two rounds
  control.limited(0);
  wire.bytes_per_s = 10e9;
  wire.send(control, kGiB / 8);
  EXPECT_EQ(control.encoding(), Encoding::kRaw);
}

TEST(CompressionControl, TriesNothingBeforeThePassHasToWait) {
  CompressionControl control(CompressionMode::kAuto);
  Wire wire;
  wire.bytes_per_s = k1G;
  wire.send(control, 7U << 20);  // not far enough for a trial
  ASSERT_EQ(wire.trials, 0);
  control.passed();
  wire.send(control, 2U << 20);  // far enough, but the buffer may be empty still
  EXPECT_EQ(wire.trials, 0);
  wire.send(control, 8U << 20);
  EXPECT_EQ(wire.trials, 1);
}

// What is sent while the container is frozen: asked for or not, only where it is faster.
TEST(CompressionControl, InAHurryOnlyWhatIsFaster) {
  for (const double rate : {k1G, 10e9}) {
    CompressionControl control(CompressionMode::kZstd);
    Wire wire;
    wire.bytes_per_s = rate;
    wire.ratio[1] = wire.ratio[2] = 0.5;
    wire.send(control, kGiB);
    EXPECT_EQ(control.encoding(), Encoding::kZstd);
    control.hurry();
    EXPECT_EQ(control.encoding(), rate == k1G ? Encoding::kZstd : Encoding::kRaw);
    wire.send(control, kGiB);
    EXPECT_EQ(control.encoding(), rate == k1G ? Encoding::kZstd : Encoding::kRaw);
    EXPECT_EQ(wire.trials, 0);
  }
  CompressionControl incompressible(CompressionMode::kLz4);
  Wire wire;
  wire.bytes_per_s = k1G;
  wire.send(incompressible, kGiB);
  incompressible.hurry();
  EXPECT_EQ(incompressible.encoding(), Encoding::kRaw);
  CompressionControl off(CompressionMode::kOff);
  off.hurry();
  wire.ratio[1] = wire.ratio[2] = 0.1;
  wire.send(off, kGiB);
  EXPECT_EQ(off.encoding(), Encoding::kRaw);
}

TEST(CompressionControl, DoesAsItIsTold) {
  const std::pair<CompressionMode, Encoding> told[] = {{CompressionMode::kOff, Encoding::kRaw},
                                                       {CompressionMode::kLz4, Encoding::kLz4},
                                                       {CompressionMode::kZstd, Encoding::kZstd}};
  for (const auto& [mode, encoding] : told) {
    CompressionControl control(mode);
    Wire wire;
    wire.bytes_per_s = mode == CompressionMode::kOff ? 1e6 : 10e9;
    wire.ratio[1] = wire.ratio[2] = mode == CompressionMode::kOff ? 0.1 : 1;
    wire.send(control, kGiB);
    EXPECT_EQ(control.encoding(), encoding);
    EXPECT_EQ(wire.trials, 0);
  }
}

TEST(Codec, GivesBackWhatWasPacked) {
  std::mt19937_64 random(1);
  std::vector<unsigned char> pages(16 * kPageBytes);
  for (unsigned char& byte : pages) byte = static_cast<unsigned char>(random() % 8);
  Compressor compressor;
  Decompressor decompressor;
  for (const Encoding encoding : {Encoding::kLz4, Encoding::kZstd}) {
    std::vector<unsigned char> packed(pages.size());
    packed.resize(compressor.pack(encoding, pages, packed));
    ASSERT_GT(packed.size(), 0U);
    EXPECT_LT(packed.size(), pages.size() * 8 / 10);
    std::vector<unsigned char> back(pages.size());
    ASSERT_TRUE(decompressor.unpack(encoding, packed, back).has_value());
    EXPECT_EQ(back, pages);
    // Neither more nor less than was announced.
    for (const std::size_t wrong : {pages.size() - kPageBytes, pages.size() + kPageBytes}) {
      back.resize(wrong);
      const auto unpacked = decompressor.unpack(encoding, packed, back);
      ASSERT_FALSE(unpacked.has_value());
      EXPECT_EQ(unpacked.error().code, Errc::kProtocol);
    }
    std::vector<unsigned char> small(packed.size() - 1);
    EXPECT_EQ(compressor.pack(encoding, pages, small), 0U);  // no room: not packed
  }
}

}  // namespace
}  // namespace lifeboat
