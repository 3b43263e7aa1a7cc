#include "criu_glue/descriptors.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
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

}  // namespace
}  // namespace lifeboat
