#include "criu_glue/smaps_cache.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <string>

#include "base/file.hpp"

namespace lifeboat {
namespace {

constexpr std::size_t kBytes = 64 * 4096;

// Has a mapping of its own; stopped at first, and again after each step.
class Child {
 public:
  explicit Child(std::vector<std::function<void(char*)>> steps = {}) {
    pid_ = ::fork();
    if (pid_ == 0) {
      void* const memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
      // Between others of another kind, so that it stays a mapping of its own.
      ::mprotect(memory, 4096, PROT_NONE);
      ::mprotect(static_cast<char*>(memory) + kBytes - 4096, 4096, PROT_NONE);
      ::raise(SIGSTOP);
      for (const auto& step : steps) {
        step(static_cast<char*>(memory) + 4096);
        ::raise(SIGSTOP);
      }
      ::_exit(0);
    }
    wait_stopped();
  }
  ~Child() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  void step() const {
    ::kill(pid_, SIGCONT);
    wait_stopped();
  }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  void wait_stopped() const { ::waitpid(pid_, nullptr, WUNTRACED); }
  pid_t pid_ = -1;
};

constexpr std::size_t kInner = kBytes - 2 * 4096;

class SmapsCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto reader = VmaReader::open();
    if (!reader) GTEST_SKIP() << reader.error().message;
    reader_ = std::make_unique<VmaReader>(std::move(*reader));
  }
  std::unique_ptr<VmaReader> reader_;
};

std::string text_of(const Fd& fd) {
  std::ifstream file("/proc/self/fd/" + std::to_string(fd.get()));
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_F(SmapsCacheTest, TheReaderListsWhatMapsLists) {
  const Child child;
  const auto mappings = reader_->read(child.pid());
  ASSERT_TRUE(mappings.has_value()) << mappings.error().message;
  std::ifstream maps("/proc/" + std::to_string(child.pid()) + "/maps");
  std::size_t at = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.ends_with("[vsyscall]")) continue;  // not one of the process
    ASSERT_LT(at, mappings->size());
    char range[64];
    std::snprintf(range, sizeof range, "%lx-%lx ", (*mappings)[at].start, (*mappings)[at].end);
    EXPECT_TRUE(line.starts_with(range)) << line << " / " << range;
    ++at;
  }
  EXPECT_EQ(at, mappings->size());
  EXPECT_GT(at, 10u);
}

TEST_F(SmapsCacheTest, NoSuchProcess) {
  constexpr pid_t kNobody = 0x3ffffff;
  const auto mappings = reader_->read(kNobody);
  EXPECT_TRUE(!mappings || mappings->empty());
  SmapsCache cache;
  cache.look({kNobody});
  EXPECT_FALSE(cache.take(kNobody));
}

TEST_F(SmapsCacheTest, GivesWhatItReadOnce) {
  const Child child;
  SmapsCache cache;
  EXPECT_FALSE(cache.take(child.pid())) << "never looked at";
  cache.look({child.pid()});
  const Fd text = cache.take(child.pid());
  ASSERT_TRUE(text);
  EXPECT_NE(text_of(text).find("VmFlags:"), std::string::npos);
  EXPECT_FALSE(cache.take(child.pid()));
}

// What the text of maps does not show.
TEST_F(SmapsCacheTest, AFlagThatChangedIsSeen) {
  const Child child({[](char* memory) { ::madvise(memory, kInner, MADV_DONTFORK); }});
  SmapsCache cache;
  cache.look({child.pid()});
  const std::uint64_t names = names_hash(child.pid());
  child.step();
  EXPECT_EQ(names_hash(child.pid()), names) << "else this test shows nothing";
  EXPECT_FALSE(cache.take(child.pid()));
  cache.look({child.pid()});
  const Fd text = cache.take(child.pid());
  ASSERT_TRUE(text);
  EXPECT_NE(text_of(text).find(" dc "), std::string::npos) << "the text is the new one";
}

TEST_F(SmapsCacheTest, AMappingThatCameOrWentIsSeen) {
  const Child child({[](char* memory) { ::munmap(memory, 4096); },
                     [](char*) {
                       (void)::mmap(nullptr, kBytes, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
                     }});
  SmapsCache cache;
  for (int i = 0; i < 2; ++i) {
    cache.look({child.pid()});
    child.step();
    EXPECT_FALSE(cache.take(child.pid())) << i;
  }
}

}  // namespace
}  // namespace lifeboat
