#include "migration/page_reader.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

namespace lifeboat {
namespace {

// A page of this process that nobody may read but by /proc/PID/mem.
class PageReaderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    page_ = ::mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(page_, MAP_FAILED);
    std::memset(page_, 7, kPageBytes);
    ASSERT_EQ(::mprotect(page_, kPageBytes, PROT_NONE), 0);
  }
  void TearDown() override { ::munmap(page_, kPageBytes); }

  Status read(PageReader& reader) {
    return reader.read({{reinterpret_cast<std::uint64_t>(page_), 1}}, bytes_.data(), read_);
  }

  void* page_ = nullptr;
  std::vector<unsigned char> bytes_ = std::vector<unsigned char>(kPageBytes);
  std::vector<bool> read_;
};

TEST_F(PageReaderTest, ReadsWhatHasNoAccess) {
  PageReader reader(::getpid());
  ASSERT_TRUE(read(reader).has_value());
  ASSERT_EQ(read_, std::vector<bool>{true});
  EXPECT_EQ(bytes_.front(), 7);
}

TEST_F(PageReaderTest, WithoutADescriptorNothingIsLost) {
  PageReader reader(::getpid());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const Status failed = read(reader);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().code, Errc::kUnavailable) << failed.error().message;
  ASSERT_TRUE(read(reader).has_value());
  EXPECT_EQ(read_, std::vector<bool>{true});
}

TEST_F(PageReaderTest, OfAProcessThatIsGoneNothingIsRead) {
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(gone, nullptr, 0), gone);
  PageReader reader(gone);
  ASSERT_TRUE(read(reader).has_value());
  EXPECT_EQ(read_, std::vector<bool>{false});
}

}  // namespace
}  // namespace lifeboat
