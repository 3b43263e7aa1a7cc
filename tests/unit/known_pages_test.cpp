// Pages of images that the target has beforehand: the numbers of the source are those of the target.
#include "migration/known_pages.hpp"

#include <gtest/gtest.h>

#include <string>

namespace lifeboat {
namespace {

std::vector<unsigned char> page_of(unsigned value) {
  std::vector<unsigned char> page(kPageBytes, 0);
  page[0] = static_cast<unsigned char>(value);
  page[1] = static_cast<unsigned char>(value >> 8U);
  return page;
}

KnownPages::PageHash hash_of(unsigned value) { return page_stream::hash_page(page_of(value).data()); }

TEST(KnownPages, EachContentHasOneNumber) {
  KnownPages known(3);
  EXPECT_EQ(known.find(hash_of(7)), std::nullopt);
  EXPECT_TRUE(known.add(hash_of(7)));
  EXPECT_TRUE(known.add(hash_of(8)));
  EXPECT_FALSE(known.add(hash_of(7))) << "it is there";
  EXPECT_TRUE(known.add(hash_of(9)));
  EXPECT_FALSE(known.add(hash_of(10))) << "that would be too many";
  EXPECT_EQ(known.size(), 3u);
  EXPECT_EQ(known.find(hash_of(7)), 0u);
  EXPECT_EQ(known.find(hash_of(9)), 2u);
  EXPECT_EQ(known.find(hash_of(10)), std::nullopt);
}

TEST(PageShelf, GivesWhatItWasGiven) {
  constexpr unsigned kPages = 2 * kChunkPages + 3;
  PageShelf shelf(kPages * kPageBytes);
  for (unsigned i = 0; i < kPages; ++i) ASSERT_TRUE(shelf.append(i, page_of(i).data(), kPageBytes));
  std::vector<unsigned char> page(kPageBytes);
  for (const unsigned i : {0U, 1U, kChunkPages - 1, kChunkPages, kPages - 1}) {
    ASSERT_TRUE(shelf.copy(i, page.data()));
    EXPECT_EQ(page, page_of(i));
  }
}

TEST(PageShelf, TakesNothingElse) {
  PageShelf shelf(2 * kPageBytes);
  const std::vector<unsigned char> pages(3 * kPageBytes);
  std::vector<unsigned char> out(kPageBytes);
  EXPECT_EQ(shelf.append(1, pages.data(), kPageBytes).error().code, Errc::kProtocol) << "out of order";
  EXPECT_EQ(shelf.append(0, pages.data(), 100).error().code, Errc::kProtocol) << "no whole page";
  EXPECT_EQ(shelf.append(0, pages.data(), 3 * kPageBytes).error().code, Errc::kRefused) << "too many";
  EXPECT_EQ(shelf.copy(0, out.data()).error().code, Errc::kProtocol) << "never sent";
  ASSERT_TRUE(shelf.append(0, pages.data(), 2 * kPageBytes));
  EXPECT_TRUE(shelf.copy(1, out.data()));
  EXPECT_EQ(shelf.copy(2, out.data()).error().code, Errc::kProtocol);
}

}  // namespace
}  // namespace lifeboat
