// What is said, and what is left, when room, descriptors or tasks run out.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "base/blocking.hpp"
#include "base/file.hpp"
#include "base/process.hpp"

namespace lifeboat {
namespace {

TEST(RunningOut, AnErrorSaysWhatToDo) {
  EXPECT_EQ(fail_errno("write /x", ENOSPC).value().message,
            "write /x: No space left on device (free space there)");
  EXPECT_EQ(fail_errno("open /x", EMFILE).value().message,
            "open /x: Too many open files (raise LimitNOFILE of lifeboatd)");
  EXPECT_EQ(fail_errno("open /x", ENOENT).value().message, "open /x: No such file or directory");
  EXPECT_EQ(fail_task("start criu", EAGAIN).value().message,
            "start criu (a limit of tasks: raise TasksMax of lifeboatd, or pids.max): Resource "
            "temporarily "
            "unavailable");
  EXPECT_EQ(fail_task("start criu", ENOMEM).value().message,
            "start criu: Cannot allocate memory (free memory on this node)");
}

TEST(RunningOut, AFileThatCannotBeReplacedLeavesNoHalfOfItBehind) {
  char name[] = "/tmp/running_out_test.XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string path = std::string(name) + "/record";
  ASSERT_TRUE(make_directories(path + "/full"));  // no file can take the place of a directory
  const Status replaced = replace_file(path, "text");
  EXPECT_FALSE(replaced.has_value());
  EXPECT_FALSE(std::filesystem::exists(path + ".new"));
  EXPECT_TRUE(std::filesystem::exists(path + "/full"));
  std::filesystem::remove_all(name);
}

TEST(RunningOut, AProgramThatGetsNoDescriptorsIsNotTakenForStarted) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit few = before;
  few.rlim_cur = 100;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  SpawnOptions options;
  options.argv = {"/bin/true"};
  auto process = spawn(options);
  EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  if (process) process->kill_and_reap();
  ASSERT_FALSE(process.has_value());
  EXPECT_EQ(
      process.error().message,
      "start /bin/true: pass descriptors: Too many open files (raise LimitNOFILE of lifeboatd)");
}

awaitable<Result<int>> work_that(std::function<void()> does) {
  does();
  co_return 3;
}

std::string outcome_of(std::function<void()> does) {
  asio::io_context context(1);
  std::optional<Result<int>> outcome;
  awaitable<Result<int>> work = errors_of(work_that(std::move(does)), "migrate");
  asio::co_spawn(context, std::move(work), [&](std::exception_ptr e, Result<int> result) {
    EXPECT_FALSE(e);
    outcome = std::move(result);
  });
  context.run();
  if (!outcome) return "it never ended";
  return *outcome ? std::to_string(**outcome) : outcome->error().message;
}

TEST(RunningOut, AThreadThatCannotBeMadeIsAnError) {
  EXPECT_EQ(outcome_of([] {}), "3");
  EXPECT_EQ(
      outcome_of([] { throw std::system_error(EAGAIN, std::generic_category(), "thread"); }),
      "migrate (a limit of tasks: raise TasksMax of lifeboatd, or pids.max): Resource temporarily "
      "unavailable");
  const boost::system::error_code again(EAGAIN, boost::system::system_category());
  EXPECT_EQ(outcome_of([&] { throw boost::system::system_error(again); }),
            outcome_of([] { throw std::system_error(EAGAIN, std::generic_category()); }));
  EXPECT_EQ(outcome_of([] { throw std::bad_alloc(); }),
            "migrate: Cannot allocate memory (free memory on this node)");
}

}  // namespace
}  // namespace lifeboat
