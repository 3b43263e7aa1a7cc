#include "base/text.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

using Parts = std::vector<std::string_view>;

TEST(Text, Trimmed) {
  EXPECT_EQ(trimmed(" \t a b\r\n"), "a b");
  EXPECT_EQ(trimmed(" \n"), "");
  EXPECT_EQ(trimmed(""), "");
}

TEST(Text, SplitKeepsWhatIsEmpty) {
  EXPECT_EQ(split("a,,b", ','), (Parts{"a", "", "b"}));
  EXPECT_EQ(split("", ','), (Parts{""}));
  EXPECT_EQ(split(",", ','), (Parts{"", ""}));
}

TEST(Text, HexDigit) {
  EXPECT_EQ(hex_digit('0'), 0);
  EXPECT_EQ(hex_digit('f'), 15);
  EXPECT_EQ(hex_digit('A'), 10);
  for (const char c : {'g', 'G', '/', ':', '@', '`', '\0', '\xff'}) EXPECT_EQ(hex_digit(c), -1);
}

TEST(Text, EffectiveCapabilities) {
  EXPECT_EQ(effective_capabilities("CapPrm:\t00000000000000ff\nCapEff:\t000001ffFFffffff\nCapBnd:\t0\n"), 0x1ffffffffffU);
  EXPECT_EQ(effective_capabilities("CapEff:\t0000000001000000"), 1U << 24);
  for (const char* text : {"", "CapEff:", "CapEff:\tx\n"}) EXPECT_EQ(effective_capabilities(text), 0U);
}

}  // namespace
}  // namespace lifeboat
