// The list of all pages: what order it must have, and what is refused.
#include "criu_glue/final_pages.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace lifeboat {
namespace {

constexpr std::uint64_t kBase = 0x7f0000000000;

FinalPage at(std::uint32_t pid, std::uint64_t page, std::uint32_t pages) {
  return {pid, pages, kBase + page * kPageBytes, 0, 0};
}

bool good(const std::vector<FinalPage>& entries) {
  return check_final_pages(entries).has_value();
}

TEST(FinalPages, InOrderAndWithoutOverlap) {
  EXPECT_TRUE(good({}));
  EXPECT_TRUE(good({at(1, 0, 2), at(1, 2, 1), at(2, 0, 1)}));
  EXPECT_FALSE(good({at(1, 0, 2), at(1, 1, 1)}));
  EXPECT_FALSE(good({at(2, 0, 1), at(1, 2, 1)}));
  EXPECT_FALSE(good({at(1, 0, 0)}));
  FinalPage odd = at(1, 0, 1);
  odd.address += 8;
  EXPECT_FALSE(good({odd}));
}

TEST(FinalPages, NothingBeyondTheAddressSpace) {
  FinalPage last{1, 1, (std::uint64_t{1} << 56) - kPageBytes, 0, 0};
  EXPECT_TRUE(good({last}));
  last.pages = 2;
  EXPECT_FALSE(good({last}));
  last.pages = ~0U;
  EXPECT_FALSE(good({last}));
  EXPECT_NE(check_final_pages(std::vector{last}).error().message.find("of process 1"),
            std::string::npos);
}

}  // namespace
}  // namespace lifeboat
