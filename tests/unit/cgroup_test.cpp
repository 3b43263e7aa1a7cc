// A container's cgroup on the real kernel: needs root and cgroup2.
#include "base/cgroup.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/process.hpp"

namespace lifeboat {
namespace {

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    const auto mount = Cgroup::mount_point();
    if (!mount) GTEST_SKIP() << mount.error().message;
    mount_ = *mount;
    parent_ = "lifeboat-unit-" + std::to_string(::getpid());
    auto made = Cgroup::create(parent_, "a");
    if (!made) GTEST_SKIP() << made.error().message;
    cgroup_.emplace(std::move(*made));
  }
  void TearDown() override {
    if (!cgroup_) return;
    (void)cgroup_->thaw();
    (void)cgroup_->remove(Milliseconds(2000));
    std::error_code ignored;
    std::filesystem::remove(mount_ + "/" + parent_, ignored);
  }

  Process sleeper() const {
    SpawnOptions options;
    options.argv = {"/bin/sleep", "60"};
    options.cgroup = cgroup_->path();
    auto process = spawn(options);
    EXPECT_TRUE(process.has_value()) << process.error().message;
    return std::move(*process);
  }

  [[nodiscard]] Status freeze() const {
    asio::io_context context(1);
    Status result = fail(Errc::kTimeout, "the test waited too long");
    asio::co_spawn(context, cgroup_->freeze(Milliseconds(5000)),
                   [&](std::exception_ptr, Status status) { result = std::move(status); });
    context.run_for(std::chrono::seconds(10));
    return result;
  }

  std::string mount_;
  std::string parent_;
  std::optional<Cgroup> cgroup_;
};

TEST_F(CgroupTest, HasItsProcessesAndFreezesThem) {
  Process process = sleeper();
  EXPECT_EQ(cgroup_->pids(), std::vector<pid_t>{process.pid()});
  const auto frozen = freeze();
  ASSERT_TRUE(frozen.has_value()) << frozen.error().message;
  std::string state;
  std::ifstream(cgroup_->path() + "/cgroup.freeze") >> state;
  EXPECT_EQ(state, "1");
  EXPECT_TRUE(cgroup_->thaw().has_value());
  std::ifstream(cgroup_->path() + "/cgroup.freeze") >> state;
  EXPECT_EQ(state, "0");
  EXPECT_TRUE(cgroup_->kill().has_value());
  process.kill_and_reap();
  EXPECT_TRUE(cgroup_->pids().empty());
}

TEST_F(CgroupTest, AnEmptyOneFreezesAtOnce) { EXPECT_TRUE(freeze().has_value()); }

TEST_F(CgroupTest, RemoveEndsWhatIsInItFrozenOrNot) {
  Process process = sleeper();
  ASSERT_TRUE(freeze().has_value());
  const auto removed = cgroup_->remove(Milliseconds(5000));
  EXPECT_TRUE(removed.has_value()) << removed.error().message;
  EXPECT_FALSE(std::filesystem::exists(cgroup_->path()));
  EXPECT_TRUE(cgroup_->remove(Milliseconds(100)).has_value());  // it is gone already
  process.kill_and_reap();
}

TEST_F(CgroupTest, IsFoundAgain) {
  const auto names = Cgroup::children(parent_);
  EXPECT_EQ(names, std::vector<std::string>{"a"});
  EXPECT_EQ(Cgroup::open(parent_, "a")->path(), cgroup_->path());
  EXPECT_FALSE(Cgroup::open(parent_, "b").has_value());
  EXPECT_TRUE(Cgroup::children(parent_ + "/nothing").empty());
  EXPECT_TRUE(Cgroup::own().has_value());
}

}  // namespace
}  // namespace lifeboat
