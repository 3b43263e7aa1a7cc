// What CRIU's pagemap images say, in one that CRIU wrote and in damaged ones.
#include "criu_glue/pagemap_image.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

namespace lifeboat {
namespace {

namespace fs = std::filesystem;

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

// The begin and the end of the image that CRIU 4.2.1 wrote of a small program: .data, two times 256
// pages of a mapping, libc's .data and the stack.
std::string sample() {
  return from_hex(
      "1943565425400856"
      "020000000801"
      "0e00000008808080e2d5af151000200428010e0000000880c080e2d5af15100020042802"
      "0f0000000880808082bdfd1f100020062880020f000000088080c082bdfd1f10002006288002"
      "0e0000000880c088a3bdfd1f100020042806"
      "0e0000000880c0ff90deff1f100020062803");
}

LazyRange lazy(std::uint32_t pid, std::uint64_t address, std::uint64_t pages) {
  LazyRange range;
  range.pid = pid;
  range.address = address;
  range.pages = pages;
  return range;
}

TEST(PagemapImage, OfCriuItself) {
  PagemapImages images;
  ASSERT_TRUE(parse_pagemap_image(sample(), 7, images).has_value());
  const std::vector<LazyRange> expected = {lazy(7, 0x7febd0400000, 256),
                                           lazy(7, 0x7febd0500000, 256),
                                           lazy(7, 0x7ffde21fe000, 3)};
  EXPECT_EQ(images.lazy, expected);
  EXPECT_EQ(images.eager_pages, 1U + 2U + 6U);
  EXPECT_EQ(images.processes, 1U);
}

// Before CRIU 4.2 the number of pages was the required field 2, and field 5 did not exist.
TEST(PagemapImage, OldCount) {
  PagemapImages images;
  const std::string old = from_hex("1943565425400856020000000801" "0800000008808004" "10052002");
  ASSERT_TRUE(parse_pagemap_image(old, 1, images).has_value());
  EXPECT_EQ(images.lazy, std::vector<LazyRange>{lazy(1, 0x10000, 5)});
}

TEST(PagemapImage, WithoutFlagsNothingIsLazy) {
  PagemapImages images;
  const std::string old = from_hex("1943565425400856020000000801" "0600000008808004" "1005");
  ASSERT_TRUE(parse_pagemap_image(old, 1, images).has_value());
  EXPECT_TRUE(images.lazy.empty());
  EXPECT_EQ(images.eager_pages, 5U);
}

TEST(PagemapImage, DamagedOnesAreRefused) {
  const std::string head = "1943565425400856020000000801";
  for (const std::string& hex : {
           std::string(),
           std::string("1943565425400856"),             // no head
           std::string("1943565400000000020000000801"), // another kind of image
           head + "0e0000",                             // size cut off
           head + "0e00000008808080",                   // message cut off
           head + "ffffffff08",                         // size out of all bounds
           head + "020000000880",                       // number cut off
           head + "0b00000008ffffffffffffffffffff",     // number too long
           head + "02000000" "0d00",                    // address of another type
           head + "02000000" "1001",                    // no address
           head + "0800000008818004" "10052002",        // address not aligned
       }) {
    PagemapImages images;
    EXPECT_FALSE(parse_pagemap_image(from_hex(hex), 1, images).has_value()) << hex;
  }
}

TEST(PagemapImage, AnyBytesAreSurvived) {
  std::mt19937 random(1);
  const std::string good = sample();
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = good.substr(0, random() % (good.size() + 1));
    for (int i = 0; i < 3 && !bytes.empty(); ++i) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    PagemapImages images;
    if (!parse_pagemap_image(bytes, 1, images)) continue;
    for (const LazyRange& range : images.lazy) {
      EXPECT_EQ(range.address % 4096, 0U);
      EXPECT_LE(range.pages, (std::uint64_t{1} << 56) / 4096);
    }
  }
}

TEST(PagemapImage, DirectoryHasProcessesOnly) {
  char path[] = "/tmp/lifeboat-pagemap-XXXXXX";
  ASSERT_NE(::mkdtemp(path), nullptr);
  const std::string directory = path;
  const auto write = [&](const std::string& name, const std::string& bytes) {
    std::ofstream(directory + "/" + name, std::ios::binary) << bytes;
  };
  write("pagemap-12.img", sample());
  write("pagemap-1.img", sample());
  for (const char* other : {"pagemap-shmem-5.img", "pagemap-.img", "pagemap-1x.img", "core-1.img",
                            "pagemap-99999999999.img", "pages-1.img"}) {
    write(other, "not a pagemap of a process");
  }
  const auto images = read_pagemap_images(directory);
  ASSERT_TRUE(images.has_value()) << images.error().message;
  EXPECT_EQ(images->processes, 2U);
  ASSERT_EQ(images->lazy.size(), 6U);
  EXPECT_EQ(images->lazy.front().pid, 1U);
  EXPECT_EQ(images->lazy.back().pid, 12U);
  const auto ranges = lazy_pages_in_images(directory);
  ASSERT_TRUE(ranges.has_value());
  EXPECT_EQ(*ranges, images->lazy);
  write("pagemap-3.img", "damaged");
  EXPECT_FALSE(lazy_pages_in_images(directory).has_value());
  fs::remove_all(directory);
  EXPECT_FALSE(lazy_pages_in_images(directory).has_value());
}

}  // namespace
}  // namespace lifeboat
