// Who may use the operator's socket.
#include "api_access.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.hpp"

namespace lifeboat {
namespace {

// Groups that every Debian has; any others would do.
constexpr gid_t kDaemon = 1;
constexpr gid_t kBin = 2;

TEST(ApiAccess, Groups) {
  const auto access = ApiAccess::make("daemon", "bin");
  ASSERT_TRUE(access) << access.error().message;
  EXPECT_FALSE(access->root_only());
  const ApiCaller root{0, {0}};
  const ApiCaller admin{1000, {1000, kDaemon}};
  const ApiCaller reader{1001, {kBin}};
  const ApiCaller stranger{1002, {1002}};
  for (const bool reads_only : {true, false}) {
    EXPECT_TRUE(access->check(root, reads_only));
    EXPECT_TRUE(access->check(admin, reads_only));
    EXPECT_EQ(access->check(reader, reads_only).has_value(), reads_only);
    EXPECT_FALSE(access->check(stranger, reads_only));
  }
  EXPECT_EQ(access->check(reader, false).error().message,
            "anything but looking is for root, group daemon (security.admin_group); user 1001 is in none");
  EXPECT_EQ(access->check(stranger, true).error().message,
            "this is for root, group daemon (security.admin_group), group bin (security.read_group); user "
            "1002 is in none");
}

TEST(ApiAccess, WithoutGroupsItIsRootsAlone) {
  const auto access = ApiAccess::make("", "");
  ASSERT_TRUE(access);
  EXPECT_TRUE(access->root_only());
  EXPECT_TRUE(access->check({0, {}}, false));
  // Group 0 does not make one root.
  EXPECT_FALSE(access->check({1000, {0}}, true));
}

TEST(ApiAccess, AGroupThatIsNotThere) {
  const auto access = ApiAccess::make("no-such-group", "");
  ASSERT_FALSE(access);
  EXPECT_EQ(access.error().message,
            "security.admin_group: there is no group 'no-such-group' on this machine");
}

TEST(ApiAccess, TheKernelSaysWhoCalls) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const Fd ours(pair[0]);
  const Fd theirs(pair[1]);
  const auto caller = api_caller(ours.get());
  ASSERT_TRUE(caller) << caller.error().message;
  EXPECT_EQ(caller->uid, ::geteuid());
  EXPECT_EQ(caller->groups.back(), ::getegid());
}

}  // namespace
}  // namespace lifeboat
