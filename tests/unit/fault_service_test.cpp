// What a process does to its mappings while its memory is missing, in the order in which the kernel tells it.
#include "criu_glue/fault_service.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "base/fd_passing.hpp"

namespace lifeboat {
namespace {

constexpr std::uint64_t kArea = 64 * kPageBytes;

// The addresses of two areas, one after the other, in a child whose pages are missing.
class FaultServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    memory_ = static_cast<unsigned char*>(::mmap(nullptr, 2 * kArea, PROT_READ | PROT_WRITE,
                                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(memory_, MAP_FAILED);
    for (std::uint64_t page = 0; page < 2 * kArea / kPageBytes; ++page) {
      std::memset(memory_ + page * kPageBytes, static_cast<int>(page + 1), kPageBytes);
    }
  }
  void TearDown() override {
    if (child_ > 0) {
      ::kill(child_, SIGKILL);
      ::waitpid(child_, nullptr, 0);
    }
    ::munmap(memory_, 2 * kArea);
  }

  // `body` runs in the child, with the areas registered and nobody who serves them; it says by `said` when it
  // is to be served.
  template <class Body>
  void restore(Body body) {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    said_ = Fd(pair[0]);
    child_ = ::fork();
    if (child_ != 0) {
      ::close(pair[1]);
      return;
    }
    ::munmap(memory_, 2 * kArea);
    void* const again = ::mmap(memory_, 2 * kArea, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    const int uffd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
                   UFFD_FEATURE_EVENT_UNMAP;
    uffdio_register area{};
    area.range = {reinterpret_cast<std::uint64_t>(again), 2 * kArea};
    area.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (again != memory_ || ::ioctl(uffd, UFFDIO_API, &api) != 0 || ::ioctl(uffd, UFFDIO_REGISTER, &area) != 0) {
      ::_exit(90);
    }
    if (send_with_fd(pair[1], "u", 1, uffd) != 1) ::_exit(91);
    ::close(uffd);
    ::_exit(body([said = pair[1]] { (void)!::write(said, "x", 1); }));
  }

  // Serves the child from the moment at which it says so; its exit status, -1 after 20 s.
  int serve() {
    Fd uffd;
    char byte = 0;
    EXPECT_EQ(receive_with_fd(said_.get(), &byte, 1, uffd), 1);
    EXPECT_EQ(::read(said_.get(), &byte, 1), 1);
    FaultService service([](const std::string& error) { ADD_FAILURE() << error; }, [](const RemotePages&) {});
    FaultService::Missing missing;
    missing.pending.add({reinterpret_cast<std::uint64_t>(memory_), 2 * kArea, copy_.data()});
    std::memcpy(copy_.data(), memory_, 2 * kArea);
    service.add(1, std::move(uffd), std::move(missing));
    EXPECT_TRUE(service.push().has_value());
    for (int i = 0; i < 20'000; ++i, ::usleep(1000)) {
      int status = 0;
      if (::waitpid(child_, &status, WNOHANG) != child_) continue;
      child_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return -1;
  }

  // The area that was the first or the second is at `at`.
  static bool is_area(const void* at, unsigned which) {
    for (std::uint64_t page = 0; page < kArea / kPageBytes; ++page) {
      const auto wanted = static_cast<unsigned char>(which * kArea / kPageBytes + page + 1);
      if (static_cast<const unsigned char*>(at)[page * kPageBytes] != wanted) return false;
    }
    return true;
  }

  static bool is_mapped(void* at) {
    unsigned char there[kArea / kPageBytes];
    return ::mincore(at, kArea, there) == 0;
  }

  unsigned char* memory_ = nullptr;
  std::vector<unsigned char> copy_ = std::vector<unsigned char>(2 * kArea);
  Fd said_;
  pid_t child_ = -1;
};

// One thread moves an area away, and another one at once to where it was. The kernel tells that the first has
// left its place (UNMAP) only after it was told that it moved (REMAP), and so after the second has come there.
TEST_F(FaultServiceTest, AnAreaThatComesWhereAnotherWasIsNotForgotten) {
  restore([this](const auto& serve_now) {
    unsigned char* const first = memory_;
    unsigned char* const second = memory_ + kArea;
    void* const place = ::mmap(nullptr, kArea, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::atomic<bool> moved{true};
    const auto move = [&](void* from, void* to) {
      if (::mremap(from, kArea, kArea, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to) moved = false;
    };
    std::thread one([&] { move(first, place); });
    while (is_mapped(first)) ::usleep(100);
    std::thread other([&] { move(second, first); });
    while (is_mapped(second)) ::usleep(100);
    serve_now();
    one.join();
    other.join();
    if (!moved) return 1;
    if (!is_area(place, 0)) return 2;
    return is_area(first, 1) ? 0 : 3;
  });
  EXPECT_EQ(serve(), 0);
}

// What moved there can still be given up.
TEST_F(FaultServiceTest, AnAreaThatMovedIsForgottenWhenItIsUnmapped) {
  restore([this](const auto& serve_now) {
    serve_now();
    void* const place = ::mmap(nullptr, kArea, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 3; ++i) {
      // Away, and back: the same ranges again.
      if (::mremap(memory_, kArea, kArea, MREMAP_MAYMOVE | MREMAP_FIXED, place) != place) return 1;
      if (::mremap(place, kArea, kArea, MREMAP_MAYMOVE | MREMAP_FIXED, memory_) != memory_) return 1;
    }
    // Cut off and grown again: zeros, but for what was not cut off.
    if (::mremap(memory_, kArea, kPageBytes, 0) != memory_) return 2;
    if (::mremap(memory_, kPageBytes, kArea, 0) != memory_) return 3;
    if (memory_[0] != 1) return 4;
    for (std::uint64_t page = 1; page < kArea / kPageBytes; ++page) {
      if (memory_[page * kPageBytes] != 0) return 5;
    }
    return is_area(memory_ + kArea, 1) ? 0 : 6;
  });
  EXPECT_EQ(serve(), 0);
}

}  // namespace
}  // namespace lifeboat
