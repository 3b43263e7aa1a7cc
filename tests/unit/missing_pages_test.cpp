#include "criu_glue/missing_pages.hpp"

#include <gtest/gtest.h>

#include <string>

namespace lifeboat {
namespace {

constexpr std::uint64_t kSize = 16 * kPageBytes;
constexpr std::uint64_t kA = 0x100000, kB = 0x200000, kC = 0x300000;

// Two areas, but for a page in the midst of the first; their bytes are at 1000 and 2000 times a page.
unsigned char* const kBytesA = reinterpret_cast<unsigned char*>(1000 * kPageBytes);
unsigned char* const kBytesB = reinterpret_cast<unsigned char*>(2000 * kPageBytes);

MissingPages two_areas() {
  Pending pending;
  pending.add({kA, 8 * kPageBytes, kBytesA});
  pending.add({kA + 9 * kPageBytes, 7 * kPageBytes, kBytesA + 9 * kPageBytes});
  pending.add({kB, kSize, kBytesB});
  return {std::move(pending), {}, false};
}

// What is missing, as "page of which area" for each page of [at, +kSize): A0 to A15, B0 to B15, - for none.
std::string at(const MissingPages& missing, std::uint64_t start) {
  std::string text;
  for (std::uint64_t address = start; address < start + kSize; address += kPageBytes) {
    std::string here = "-";
    for (const Pending::Piece& piece : missing.pending.pieces()) {
      if (address < piece.address || address >= piece.address + piece.bytes) continue;
      const auto source = reinterpret_cast<std::uint64_t>(piece.source) + (address - piece.address);
      const std::uint64_t page = source / kPageBytes;
      here = (page < 2000 ? "A" : "B") + std::to_string(page % 1000);
    }
    text += (text.empty() ? "" : " ") + here;
  }
  return text;
}

const std::string kAllA = "A0 A1 A2 A3 A4 A5 A6 A7 - A9 A10 A11 A12 A13 A14 A15";
const std::string kAllB = "B0 B1 B2 B3 B4 B5 B6 B7 B8 B9 B10 B11 B12 B13 B14 B15";
const std::string kNothing = "- - - - - - - - - - - - - - - -";

// As the kernel tells a move, with nothing between.
void move_and_leave(MissingPages& missing, std::uint64_t from, std::uint64_t to) {
  missing.move(from, to, kSize);
  EXPECT_FALSE(missing.unmap(from, from + kSize)) << "that it has left is no news";
}

TEST(MissingPages, OneAfterTheOther) {
  MissingPages missing = two_areas();
  move_and_leave(missing, kA, kC);
  EXPECT_EQ(at(missing, kC), kAllA);
  move_and_leave(missing, kB, kA);
  EXPECT_EQ(at(missing, kA), kAllB);
  EXPECT_EQ(at(missing, kB), kNothing);
  move_and_leave(missing, kA, kB);
  move_and_leave(missing, kC, kA);
  EXPECT_EQ(at(missing, kA), kAllA);
  EXPECT_EQ(at(missing, kB), kAllB);
  EXPECT_FALSE(missing.untold());
  EXPECT_TRUE(missing.unmap(kA, kA + kSize));
  EXPECT_EQ(at(missing, kA), kNothing);
  EXPECT_EQ(missing.bytes(), kSize);
}

TEST(MissingPages, ItsOldPlaceIsTakenBeforeItHasToldThatItLeft) {
  MissingPages missing = two_areas();
  missing.move(kA, kC, kSize);
  missing.move(kB, kA, kSize);
  EXPECT_TRUE(missing.untold());
  EXPECT_FALSE(missing.unmap(kA, kA + kSize));
  EXPECT_FALSE(missing.unmap(kB, kB + kSize));
  EXPECT_FALSE(missing.untold());
  EXPECT_EQ(at(missing, kA), kAllB);
  EXPECT_EQ(at(missing, kC), kAllA);
}

TEST(MissingPages, ItsOldPlaceIsTakenBeforeItHasToldThatItMoved) {
  MissingPages missing = two_areas();
  missing.move(kB, kA, kSize);
  EXPECT_EQ(missing.bytes(), 31 * kPageBytes) << "what was there is not gone";
  missing.move(kA, kC, kSize);
  EXPECT_EQ(at(missing, kA), kAllB);
  EXPECT_EQ(at(missing, kC), kAllA);
  EXPECT_FALSE(missing.unmap(kA, kA + kSize));
  EXPECT_FALSE(missing.unmap(kB, kB + kSize));
  EXPECT_FALSE(missing.untold());
}

TEST(MissingPages, ItsPlaceIsTakenBeforeItHasToldThatItIsGone) {
  MissingPages missing = two_areas();
  missing.move(kB, kA + 4 * kPageBytes, 8 * kPageBytes);  // into the midst of it
  missing.unmap(kB, kB + 8 * kPageBytes);
  EXPECT_TRUE(missing.unmap(kA, kA + kSize));
  EXPECT_EQ(at(missing, kA), "- - - - B0 B1 B2 B3 B4 B5 B6 B7 - - - -");
  EXPECT_FALSE(missing.untold());
  EXPECT_TRUE(missing.unmap(kA, kA + kSize)) << "and now it is about the other one";
  EXPECT_EQ(at(missing, kA), kNothing);
}

// It was filled already, so that nothing of it is missing: what is told of it is about nothing that is.
TEST(MissingPages, OfWhatIsNotMissingAnyMore) {
  MissingPages missing = two_areas();
  while (auto piece = missing.pending.take_around(kA, kSize)) continue;
  while (auto piece = missing.pending.take_around(kA + 9 * kPageBytes, kSize)) continue;
  missing.move(kB, kA, kSize);
  missing.move(kA, kC, kSize);
  EXPECT_EQ(at(missing, kA), kAllB);
  EXPECT_EQ(at(missing, kC), kNothing);
}

TEST(MissingPages, WhatIsNeverToldIsGone) {
  MissingPages missing = two_areas();
  missing.move(kB, kA, kSize);
  missing.all_is_told();
  EXPECT_FALSE(missing.untold());
  EXPECT_EQ(missing.bytes(), kSize);
  move_and_leave(missing, kA, kC);
  EXPECT_EQ(at(missing, kC), kAllB);
}

TEST(MissingPages, WhatIsGivenUpIsThatWhichIsThere) {
  MissingPages missing = two_areas();
  missing.give_up(kA + kPageBytes, kA + 15 * kPageBytes);
  EXPECT_EQ(at(missing, kA), "A0 - - - - - - - - - - - - - - A15");
}

}  // namespace
}  // namespace lifeboat
