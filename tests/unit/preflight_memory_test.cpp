// Processes whose memory cannot be carried are refused by name.
#include "preflight_memory.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.hpp"

namespace lifeboat {
namespace {

TEST(PreflightMemory, OrdinaryProcessesPass) {
  EXPECT_TRUE(check_memory_use({::getpid(), 0x3ffffff}).has_value());
}

TEST(PreflightMemory, AUserfaultfdIsRefused) {
  const Fd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | 1 /* UFFD_USER_MODE_ONLY */)));
  if (!uffd) GTEST_SKIP() << "no userfaultfd here";
  const auto checked = check_memory_use({::getpid()});
  ASSERT_FALSE(checked.has_value());
  EXPECT_EQ(checked.error().code, Errc::kRefused);
  EXPECT_NE(checked.error().message.find("userfaultfd"), std::string::npos);
}

TEST(PreflightMemory, AnIoUringIsRefused) {
  alignas(8) unsigned char parameters[256] = {};
  const Fd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 4, parameters)));
  if (!ring) GTEST_SKIP() << "no io_uring here";
  const auto checked = check_memory_use({::getpid()});
  ASSERT_FALSE(checked.has_value());
  EXPECT_NE(checked.error().message.find("io_uring"), std::string::npos);
}

}  // namespace
}  // namespace lifeboat
