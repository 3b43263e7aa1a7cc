// tracker_tests: the tests of dirty tracking alone, for any kernel. As the first process of a machine
// (tests/lab/old_kernel_test.sh) it makes itself at home and switches the machine off at the end.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>

int main(int argc, char** argv) {
  const bool is_init = ::getpid() == 1;
  if (is_init) {
    (void)::mount("proc", "/proc", "proc", 0, nullptr);
    (void)::mount("sysfs", "/sys", "sysfs", 0, nullptr);
    (void)::mount("tmpfs", "/tmp", "tmpfs", 0, nullptr);
    utsname names{};
    (void)::uname(&names);
    std::printf("%s %s\n", names.sysname, names.release);
  }
  ::testing::InitGoogleTest(&argc, argv);
  const int result = RUN_ALL_TESTS();
  if (is_init) {
    std::printf("tests ended with %d\n", result);
    std::fflush(stdout);
    ::sync();
    ::usleep(200'000);
    (void)::reboot(RB_POWER_OFF);
  }
  return result;
}
