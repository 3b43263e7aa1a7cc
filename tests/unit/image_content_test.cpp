// What CRIU's images of a process will hold, read while it runs: from a real process with memory of each kind.
#include "migration/image_content.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "criu_glue/pagemap.hpp"

namespace lifeboat {
namespace {

constexpr std::size_t kBytes = 16 * kPageBytes;

void* map(int flags, int fd = -1) {
  void* at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  return at == MAP_FAILED ? nullptr : at;
}

// A page that is found again: a word repeated.
void mark(void* memory, std::size_t page, const char* word) {
  char* at = static_cast<char*>(memory) + page * kPageBytes;
  for (std::size_t i = 0; i + 16 <= kPageBytes; i += 16) std::snprintf(at + i, 16, "%-15s", word);
}

class ImageContentTest : public ::testing::Test {
 protected:
  // The process that is looked at; returns once its memory is as it should be.
  void SetUp() override {
    if (!has_pagemap_scan()) GTEST_SKIP() << "private pages are only read where the kernel has PAGEMAP_SCAN";
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    child_ = ::fork();
    ASSERT_GE(child_, 0);
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const bool good = fill();
      (void)!::write(ready[1], good ? "y" : "n", 1);
      for (;;) ::pause();
    }
    char said = 0;
    ASSERT_EQ(::read(ready[0], &said, 1), 1);
    ASSERT_EQ(said, 'y');
    ::close(ready[0]);
    ::close(ready[1]);
  }
  void TearDown() override {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }

  static bool fill() {
    void* shared = map(MAP_SHARED | MAP_ANONYMOUS);
    char path[] = "/dev/shm/lifeboat-content-XXXXXX";
    const int fd = ::mkstemp(path);
    if (fd < 0 || ::unlink(path) != 0 || ::ftruncate(fd, kBytes) != 0) return false;
    void* unlinked = map(MAP_SHARED, fd);
    void* again = map(MAP_SHARED, fd);  // the same file a second time
    char named_path[] = "/dev/shm/lifeboat-content-XXXXXX";
    const int named_fd = ::mkstemp(named_path);
    if (named_fd < 0 || ::ftruncate(named_fd, kBytes) != 0) return false;
    void* copied = map(MAP_PRIVATE, named_fd);
    void* named = map(MAP_SHARED, named_fd);
    void* locked = map(MAP_PRIVATE | MAP_ANONYMOUS);
    void* ours = map(MAP_PRIVATE | MAP_ANONYMOUS);
    if (!shared || !unlinked || !again || !copied || !named || !locked || !ours) return false;
    mark(shared, 3, "shared");
    mark(shared, 4, "shared");
    mark(unlinked, 15, "unlinked");
    mark(named, 1, "named");
    mark(copied, 2, "copied");
    mark(locked, 0, "locked");
    mark(ours, 0, "ours");
    (void)static_cast<volatile char*>(copied)[kPageBytes];  // a page that stays the file's
    const bool good = ::mlock(locked, kPageBytes) == 0;
    ::unlink(named_path);  // only now: what has lost its name is what counts
    return good && ::open("/dev/null", O_RDONLY) >= 0;
  }

  // How many pages there are of each word.
  static std::map<std::string, int> words(ImageContent content) {
    std::map<std::string, int> found;
    std::vector<unsigned char> bytes;
    for (;;) {
      content.read(bytes);
      if (bytes.empty()) return found;
      EXPECT_EQ(bytes.size() % kPageBytes, 0u);
      EXPECT_LE(bytes.size(), ImageContent::kPieceBytes);
      for (std::size_t at = 0; at < bytes.size(); at += kPageBytes) {
        const std::string word(reinterpret_cast<char*>(bytes.data() + at), 15);
        for (const char* known : {"shared", "unlinked", "named", "copied", "locked", "ours"}) {
          found[known] += word.starts_with(std::string(known) + " ") ? 1 : 0;
        }
      }
    }
  }

  pid_t child_ = -1;
};

TEST_F(ImageContentTest, HasWhatCriuDumpsAndNothingThatWeCarry) {
  std::map<std::string, int> found = words(ImageContent::of({child_, child_}));
  EXPECT_EQ(found["shared"], 2);
  EXPECT_EQ(found["unlinked"], 1) << "mapped twice";
  EXPECT_EQ(found["named"], 1) << "its name was taken from it";
  EXPECT_EQ(found["copied"], 2) << "by each process that is asked for";
  EXPECT_EQ(found["locked"], 2);
  EXPECT_EQ(found["ours"], 0);
}

TEST_F(ImageContentTest, OfAProcessThatIsGoneThereIsNothing) {
  auto content = ImageContent::of({child_});
  ::kill(child_, SIGKILL);
  ::waitpid(child_, nullptr, 0);
  const std::map<std::string, int> found = words(std::move(content));
  EXPECT_EQ(found.contains("copied") ? found.at("copied") : 0, 0);
  auto none = ImageContent::of({child_});
  child_ = -1;
  std::vector<unsigned char> bytes;
  none.read(bytes);
  EXPECT_TRUE(bytes.empty());
}

}  // namespace
}  // namespace lifeboat
