// Child processes: how they start, what is said when they do not, and that they end.
#include "base/process.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace lifeboat {
namespace {

template <class T>
T run(awaitable<T> task) {
  asio::io_context context(1);
  std::optional<T> result;
  asio::co_spawn(context, std::move(task), [&](std::exception_ptr error, T value) {
    EXPECT_FALSE(error);
    result.emplace(std::move(value));
  });
  context.run_for(std::chrono::seconds(20));
  EXPECT_TRUE(result.has_value()) << "did not end within 20 s";
  if (!result) std::abort();
  return std::move(*result);
}

SpawnOptions command(std::vector<std::string> argv) {
  SpawnOptions options;
  options.argv = std::move(argv);
  return options;
}

SpawnOptions shell(const std::string& text) { return command({"/bin/sh", "-c", text}); }

std::string refused(const SpawnOptions& options) {
  auto process = spawn(options);
  EXPECT_FALSE(process.has_value());
  if (process) {
    process->kill_and_reap();
    return {};
  }
  return process.error().message;
}

TEST(Spawn, ErrorsNameTheStep) {
  EXPECT_EQ(refused(command({"/no/such/program"})),
            "start /no/such/program: exec: No such file or directory");
  EXPECT_EQ(refused(command({"/"})), "start /: exec: Permission denied");
  SpawnOptions options = command({"/bin/true"});
  options.cgroup = "/no/such/cgroup";
  EXPECT_EQ(refused(options), "open /no/such/cgroup: No such file or directory");
  options = command({"/bin/true"});
  options.fds.emplace_back(999, 3);
  EXPECT_EQ(refused(options), "start /bin/true: pass descriptors: Bad file descriptor");
  options = command({"/bin/true"});
  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  options.netns_fd = null.get();
  EXPECT_EQ(refused(options), "start /bin/true: enter the network namespace: Invalid argument");
  if (::geteuid() != 0) return;
  options = command({"/bin/true"});
  options.private_mounts = true;
  options.bind_mounts.emplace_back("/no/such", "/mnt");
  EXPECT_EQ(refused(options), "start /bin/true: bind mount: No such file or directory");
  options.bind_mounts = {{"/tmp", "/no/such"}};
  EXPECT_EQ(refused(options), "start /bin/true: bind mount: No such file or directory");
}

TEST(Spawn, WhatSystemdHasToldThisServiceIsForItAlone) {
  ::setenv("NOTIFY_SOCKET", "/run/systemd/notify", 1);
  ::setenv("WATCHDOG_USEC", "1000000", 1);
  SpawnOptions options = shell("env | grep -c -e NOTIFY_SOCKET -e WATCHDOG");
  auto output = run(run_tool(options, Milliseconds(5000)));
  ::unsetenv("NOTIFY_SOCKET");
  ::unsetenv("WATCHDOG_USEC");
  ASSERT_TRUE(output.has_value()) << output.error().message;
  EXPECT_EQ(output->text, "0\n");
}

TEST(Spawn, FailuresLeaveNoChild) {
  const auto children = [] {
    std::string all;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      std::ifstream file(task.path() / "children");
      all.append(std::istreambuf_iterator<char>(file), {});
    }
    return all;
  };
  const std::string before = children();  // of other tests
  (void)refused(command({"/no/such/program"}));
  EXPECT_EQ(children(), before);
}

awaitable<std::optional<ExitStatus>> status_of(SpawnOptions options) {
  auto process = spawn(options);
  if (!process) co_return std::nullopt;
  co_return co_await process->wait();
}

TEST(Spawn, ExitStatus) {
  auto status = run(status_of(shell("exit 7")));
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->code, 7);
  EXPECT_FALSE(status->signalled);
  status = run(status_of(shell("kill -9 $$")));
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->code, 128 + SIGKILL);
  EXPECT_TRUE(status->signalled);
}

awaitable<Result<ToolOutput>> tool(SpawnOptions options, Milliseconds limit) {
  co_return co_await run_tool(std::move(options), limit);
}

TEST(RunTool, OutputEnvironmentAndStatus) {
  SpawnOptions options = shell("echo out $MINE; echo err >&2; read x; echo [$x]; exit 3");
  options.env = {{"MINE", "a b"}};
  const auto output = run(tool(std::move(options), Milliseconds(10'000)));
  ASSERT_TRUE(output.has_value()) << output.error().message;
  EXPECT_EQ(output->text, "out a b\nerr\n[]\n");
  EXPECT_EQ(output->status.code, 3);
}

// Libraries open descriptors without close-on-exec (Asio: every socket): a child that outlives the
// daemon must not keep its listeners.
TEST(RunTool, NoDescriptorsButTheGivenOnes) {
  const Fd ours(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Fd careless(::fcntl(ours.get(), F_DUPFD, 100));  // inherited by exec
  ASSERT_TRUE(careless);
  const std::string number = std::to_string(careless.get());
  SpawnOptions options = shell("test -e /proc/self/fd/7 && echo seven; test -e /proc/self/fd/" +
                               number + " && echo leaked; true");
  options.fds.emplace_back(ours.get(), 7);
  const auto output = run(tool(std::move(options), Milliseconds(10'000)));
  ASSERT_TRUE(output.has_value());
  EXPECT_EQ(output->text, "seven\n");
}

TEST(RunTool, EndsWhatTakesTooLong) {
  const auto start = SteadyClock::now();
  const auto output = run(tool(command({"/bin/sleep", "30"}), Milliseconds(100)));
  ASSERT_FALSE(output.has_value());
  EXPECT_EQ(output.error().code, Errc::kTimeout);
  EXPECT_EQ(output.error().message, "/bin/sleep was ended after 100 ms: ");
  EXPECT_LT(elapsed_ms(start), 5000);
}

TEST(RunTool, MuchOutputIsReadAndCut) {
  const auto output =
      run(tool(shell("head -c 5000000 /dev/zero"), Milliseconds(15'000)));
  ASSERT_TRUE(output.has_value()) << output.error().message;
  EXPECT_EQ(output->status.code, 0);
  EXPECT_GE(output->text.size(), 1u << 20);
  EXPECT_LE(output->text.size(), (1u << 20) + 16 * 1024);
}

awaitable<Result<std::optional<ExitStatus>>> wait_a_moment(Process& process) {
  co_return co_await process.wait_for(Milliseconds(50));
}

TEST(Process, WaitForGivesUp) {
  auto process = spawn(command({"/bin/sleep", "30"}));
  ASSERT_TRUE(process.has_value());
  const auto status = run(wait_a_moment(*process));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message, "not ended after 50 ms");
  EXPECT_TRUE(process->running());
  process->kill_and_reap();
  EXPECT_FALSE(process->running());
  EXPECT_EQ(::kill(process->pid(), 0), -1);
}

awaitable<Result<std::optional<ExitStatus>>> wait_long(Process& process) {
  co_return co_await process.wait_for(Milliseconds(20'000));
}

TEST(Process, OneThatIsGoneIsNotWaitedFor) {
  auto process = spawn(command({"/bin/sleep", "30"}));
  ASSERT_TRUE(process.has_value());
  process->kill_and_reap();
  const auto begin = SteadyClock::now();
  const auto status = run(wait_long(*process));
  ASSERT_TRUE(status.has_value());
  EXPECT_FALSE(status->has_value()) << "nobody knows it any more";
  EXPECT_LT(elapsed_ms(begin), 5000);
}

TEST(Process, StartTimeNamesIt) {
  EXPECT_NE(process_start_time(::getpid()), 0u);
  EXPECT_EQ(process_start_time(::getpid()), process_start_time(::getpid()));
  EXPECT_EQ(process_start_time(0x7fffffff), 0u);
  EXPECT_FALSE(Process::open(0x7fffffff).has_value());
}

}  // namespace
}  // namespace lifeboat
