// What a network namespace that Lifeboat makes has of its own.
#include "base/netns.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

TEST(Netns, HasItsOwnTableOfConnections) {
  const std::string key = "net/ipv4/tcp_child_ehash_entries";
  const auto here = read_sysctl(key);
  if (!here && here.error().code == Errc::kNotFound) GTEST_SKIP() << "this kernel has one table for all";
  std::string places;
  const auto made = make_netns([&]() -> Status {
    TRY(places, read_sysctl("net/ipv4/tcp_ehash_entries"));
    return {};
  });
  ASSERT_TRUE(made.has_value()) << made.error().message;
  EXPECT_EQ(places, std::to_string(kTcpTablePlaces));
  EXPECT_EQ(read_sysctl(key).value(), *here) << "the setting of this namespace stays";
}

TEST(Netns, IsGoneWhenTheWorkInItFails) {
  const auto made = make_netns([]() -> Status { return fail(Errc::kRefused, "no"); });
  ASSERT_FALSE(made.has_value());
  EXPECT_EQ(made.error().code, Errc::kRefused);
}

}  // namespace
}  // namespace lifeboat
