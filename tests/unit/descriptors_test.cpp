#include "criu_glue/descriptors.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fd.hpp"

namespace lifeboat {
namespace {

TEST(Descriptors, DirectIoIsSeen) {
  int packets[2];
  ASSERT_EQ(::pipe2(packets, O_CLOEXEC | O_DIRECT), 0);
  const Fd ends[] = {Fd(packets[0]), Fd(packets[1])};
  EXPECT_FALSE(uses_direct_io(::getpid()));
  const Fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC | O_DIRECT));
  if (!file) GTEST_SKIP() << "no O_DIRECT on this file system";
  EXPECT_TRUE(uses_direct_io(::getpid()));
}

TEST(Descriptors, NotToBeAbleToLookIsToldFromNone) {
  const auto none = [](const std::string&, const std::string&) { return false; };
  EXPECT_TRUE(each_descriptor(::getpid(), none));
  EXPECT_TRUE(each_descriptor(0x3ffffff, none)) << "there is no such process";
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit no_more{3, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &no_more), 0);
  const bool read = each_descriptor(::getpid(), none);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_FALSE(read);
}

}  // namespace
}  // namespace lifeboat
