// A userfaultfd made inside another process leaves nothing there, whatever that process does meanwhile.
#include "criu_glue/inject.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

namespace lifeboat {
namespace {

namespace fs = std::filesystem;

// Four threads that fork all the time; the children live for a while.
[[noreturn]] void fork_for_ever() {
  ::signal(SIGCHLD, SIG_IGN);
  const auto forking = [] {
    for (;;) {
      if (::fork() == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::usleep(300'000);
        ::_exit(0);
      }
      ::usleep(300);
    }
  };
  for (int i = 0; i < 3; ++i) std::thread(forking).detach();
  forking();
  ::_exit(1);
}

pid_t parent_of(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("PPid:", 0) == 0) return std::atoi(line.c_str() + 5);
  }
  return -1;
}

int userfaultfds(pid_t pid) {
  int found = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", error)) {
    std::error_code gone;
    found += fs::read_symlink(entry.path(), gone) == "anon_inode:[userfaultfd]" ? 1 : 0;
  }
  return found;
}

int userfaultfds_of_children(pid_t parent) {
  int found = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0 && parent_of(pid) == parent) found += userfaultfds(pid);
  }
  return found;
}

TEST(Inject, NoChildInheritsIt) {
  const pid_t child = ::fork();
  if (child == 0) fork_for_ever();
  ::usleep(100'000);
  int made = 0;
  int inherited = 0;
  std::string refused;
  for (int i = 0; i < 40; ++i) {
    auto uffd = inject_userfaultfd(child);
    if (!uffd) {
      refused = uffd.error().message;
      continue;
    }
    ++made;
    if (i % 4 == 0) inherited += userfaultfds_of_children(child);
  }
  const int left = userfaultfds(child);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  if (made == 0) GTEST_SKIP() << "userfaultfd cannot be injected here: " << refused;
  EXPECT_EQ(inherited, 0);
  EXPECT_EQ(left, 0);
}

// Whoever injects is killed while at it, again and again: the process goes on as if nothing was.
TEST(Inject, ItsKillerDoesNoHarm) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::thread([] {
      for (;;) ::usleep(200);
    }).detach();
    for (;;) ::usleep(500);
  }
  ::usleep(50'000);
  auto first = inject_userfaultfd(child);
  for (int i = 0; first && i < 60; ++i) {
    const pid_t injector = ::fork();
    if (injector == 0) {
      for (;;) (void)inject_userfaultfd(child);
    }
    ::usleep(static_cast<useconds_t>(3000 + 997 * i % 5000));
    ::kill(injector, SIGKILL);
    ::waitpid(injector, nullptr, 0);
  }
  ::usleep(100'000);
  int status = 0;
  const bool lives = ::waitpid(child, &status, WNOHANG) == 0;
  const int left = userfaultfds(child);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  if (!first) GTEST_SKIP() << "userfaultfd cannot be injected here: " << first.error().message;
  EXPECT_TRUE(lives) << "it ended with status " << status;
  EXPECT_EQ(left, 0);
}

}  // namespace
}  // namespace lifeboat
