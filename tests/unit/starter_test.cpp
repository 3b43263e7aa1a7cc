// Processes that lifeboat-starter starts: the real program, asked as the daemon asks it.
#include "base/starter.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

#include "base/fd_passing.hpp"
#include "base/file.hpp"
#include "base/unix_socket.hpp"
#include "predictor/sources/program.hpp"

namespace lifeboat {
namespace {

namespace fs = std::filesystem;

// A starter, and the request of a spawn as it goes there. The tests ask it without use_starter(), which is
// for all of a process.
class Starter : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "lifeboat-starter-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    socket_ = directory_ + "/socket";
    SpawnOptions options;
    options.argv = {"setpriv", "--pdeathsig", "KILL",
                    fs::read_symlink("/proc/self/exe").parent_path() / "lifeboat-starter", "--socket", socket_};
    auto process = spawn(options);
    ASSERT_TRUE(process.has_value()) << process.error().message;
    process_ = std::move(*process);
    for (int i = 0; i < 500 && !connect_at(socket_, SOCK_SEQPACKET); ++i) ::usleep(10'000);
  }
  void TearDown() override {
    process_.kill_and_reap();
    fs::remove_all(directory_);
  }

  json::object ask(const std::string& text, const std::vector<int>& fds = {}, Fd* fd = nullptr) {
    auto socket = connect_at(socket_, SOCK_SEQPACKET);
    EXPECT_TRUE(socket.has_value());
    EXPECT_EQ(send_with_fds(socket->get(), text.data(), text.size(), fds), static_cast<ssize_t>(text.size()));
    std::string answer(kStarterMessageBytesMax, '\0');
    Fd none;
    const ssize_t n = receive_with_fd(socket->get(), answer.data(), answer.size(), fd != nullptr ? *fd : none);
    EXPECT_GT(n, 0);
    return parse_object(std::string_view(answer).substr(0, static_cast<std::size_t>(std::max(n, ssize_t{0}))))
        .value_or(json::object{});
  }
  Process start(const SpawnOptions& options) {
    std::vector<int> fds;
    const json::object request = to_json(options, fds);
    Fd pidfd;
    const json::object answer = ask(json::serialize(request), fds, &pidfd);
    EXPECT_TRUE(answer.contains("pid")) << json::serialize(answer);
    return Process(static_cast<pid_t>(number_or(answer, "pid")), std::move(pidfd));
  }
  json::object status(pid_t pid) { return ask(json::serialize(json::object{{"op", "status"}, {"pid", pid}})); }

  std::string directory_;
  std::string socket_;
  Process process_;
};

SpawnOptions shell(const std::string& text) {
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", text};
  return options;
}

void wait_until_ended(const Process& process) {
  for (int i = 0; i < 1000 && process.running(); ++i) ::usleep(10'000);
  EXPECT_FALSE(process.running());
}

TEST_F(Starter, StartsWithDescriptorsAndEnvironmentAndTellsHowItEnded) {
  int pipe_fds[2];
  ASSERT_EQ(::pipe2(pipe_fds, O_CLOEXEC), 0);
  const Fd read_end(pipe_fds[0]);
  Fd write_end(pipe_fds[1]);
  SpawnOptions options = shell("echo $WORD >&7; exit 5");
  options.env = {{"WORD", "it is; \"quoted\""}};
  options.fds = {{write_end.get(), 7}};
  const Process process = start(options);
  write_end.reset();
  char text[64] = {};
  EXPECT_EQ(::read(read_end.get(), text, sizeof text), 16);
  EXPECT_STREQ(text, "it is; \"quoted\"\n");
  wait_until_ended(process);
  EXPECT_EQ(json::serialize(status(process.pid())), R"({"code":5,"signalled":false})");
}

TEST_F(Starter, TellsOfASignalAndOfAGrandchildThatHasLostItsParent) {
  const Process process = start(shell("sleep 100 & echo $! > " + directory_ + "/pid"));
  wait_until_ended(process);
  EXPECT_EQ(number_or(status(process.pid()), "code", -1), 0);
  auto text = read_file(directory_ + "/pid");
  ASSERT_TRUE(text.has_value());
  const auto orphan = static_cast<pid_t>(std::atoi(text->c_str()));
  EXPECT_EQ(json::serialize(status(orphan)), "{}") << "it runs";
  auto handle = Process::open(orphan);
  ASSERT_TRUE(handle.has_value());
  handle->signal(SIGKILL);
  wait_until_ended(*handle);
  EXPECT_EQ(json::serialize(status(orphan)), R"({"code":137,"signalled":true})");
}

TEST_F(Starter, ErrorsOfAStartAreTheSameAsWithoutIt) {
  std::vector<int> fds;
  SpawnOptions options = shell("true");
  options.argv = {"/no/such/program"};
  const json::object answer = ask(json::serialize(to_json(options, fds)), fds);
  EXPECT_EQ(string_or(answer, "error"), "start /no/such/program: exec: No such file or directory");
  EXPECT_EQ(string_or(answer, "code"), "system");
}

TEST_F(Starter, WhatItCannotReadIsRefusedAndItGoesOn) {
  EXPECT_EQ(string_or(ask("{nonsense"), "code"), "protocol");
  EXPECT_EQ(string_or(ask("{}"), "code"), "invalid");
  EXPECT_EQ(string_or(ask(R"({"op":"spawn"})"), "code"), "protocol");
  std::vector<int> fds;
  json::object request = to_json(shell("true"), fds);
  request["stdin"] = 9;
  EXPECT_EQ(string_or(ask(json::serialize(request)), "error"), "member 'stdin': no such descriptor");
  EXPECT_EQ(json::serialize(status(1)), "{}");
  wait_until_ended(start(shell("true")));
}

TEST_F(Starter, ASecondOneIsRefused) {
  SpawnOptions options;
  options.argv = {fs::read_symlink("/proc/self/exe").parent_path() / "lifeboat-starter", "--socket", socket_};
  auto second = spawn(options);
  ASSERT_TRUE(second.has_value());
  wait_until_ended(*second);
  EXPECT_TRUE(process_.running());
  second->kill_and_reap();
  wait_until_ended(start(shell("true")));
}

TEST_F(Starter, WhatItHasStartedOutlivesIt) {
  Process child = start(shell("sleep 100"));
  process_.kill_and_reap();
  EXPECT_TRUE(child.running());
  child.signal(SIGKILL);
  wait_until_ended(child);
}

// Of a process that has a starter: that is for good, so each runs in one of its own.
template <class Work>
[[noreturn]] void with_starter(const std::string& socket, Work work) {
  ::alarm(60);
  if (!use_starter(socket)) ::_exit(100);
  asio::io_context context(1);
  int code = 101;
  const auto run = [&]() -> awaitable<void> { code = co_await work(); };
  asio::co_spawn(context, run(), asio::detached);
  context.run();
  ::_exit(code);
}

// It hangs until the loop has gone on.
TEST_F(Starter, TheDaemonsLoopGoesOnWhileItHangs) {
  const auto work = [this]() -> awaitable<int> {
    process_.signal(SIGSTOP);
    const auto resume = [this]() -> awaitable<void> {
      for (int turns = 0; turns < 30; ++turns) co_await sleep_for(Milliseconds(10));
      process_.signal(SIGCONT);
    };
    asio::co_spawn(co_await asio::this_coro::executor, resume(), asio::detached);
    SpawnOptions options = shell("exit 6");
    auto process = co_await lifeboat::start(std::move(options));
    if (!process) co_return 102;
    auto status = co_await process->wait();
    co_return status ? status->code : 103;
  };
  EXPECT_EXIT(with_starter(socket_, work), testing::ExitedWithCode(6), "");
}

TEST_F(Starter, NobodyWhoListensIsToldAtOnce) {
  const auto work = [this]() -> awaitable<int> {
    process_.kill_and_reap();
    SpawnOptions options = shell("exit 6");
    auto process = co_await lifeboat::start(std::move(options));
    if (process) co_return 102;
    std::cerr << process.error().message << std::endl;
    co_return process.error().code == Errc::kUnavailable ? 6 : 103;
  };
  EXPECT_EXIT(with_starter(socket_, work), testing::ExitedWithCode(6),
              "start /bin/sh: lifeboat-starter: .*systemctl status lifeboat-starter");
}

TEST_F(Starter, AStartThatIsGivenUpLeavesNoProcess) {
  const std::string file = directory_ + "/pid";
  const auto work = [&]() -> awaitable<int> {
    { const ProcessStart unwanted(shell("echo $$ > " + file + "; exec sleep 100")); }
    co_await sleep_for(Milliseconds(500));
    auto text = read_file(file);
    const auto pid = static_cast<pid_t>(std::atoi(text.value_or("0").c_str()));
    co_return pid > 0 && ::kill(pid, 0) == 0 ? 102 : 6;
  };
  EXPECT_EXIT(with_starter(socket_, work), testing::ExitedWithCode(6), "");
}

// The site's own checks: their exit status is the verdict.
TEST_F(Starter, ProgramsOfTheSiteEndWithTheirOwnStatus) {
  const auto work = []() -> awaitable<int> {
    predictor::Program program;
    predictor::Program::Options options;
    options.argv = {"/bin/sh", "-c", "echo bad memory; exit 2"};
    if (!program.start(options)) co_return 102;
    for (int i = 0; i < 500; ++i) {
      if (auto ended = program.poll()) {
        co_return *ended && (*ended)->text == "bad memory\n" ? (*ended)->exit_code : 103;
      }
      co_await sleep_for(Milliseconds(10));
    }
    co_return 104;
  };
  EXPECT_EXIT(with_starter(socket_, work), testing::ExitedWithCode(2), "");
}

TEST_F(Starter, AProgramOfTheSiteThatHangsIsEnded) {
  const auto work = []() -> awaitable<int> {
    predictor::Program program;
    predictor::Program::Options options;
    options.argv = {"/bin/sh", "-c", "sleep 100"};
    options.limit = Milliseconds(100);
    if (!program.start(options)) co_return 102;
    for (int i = 0; i < 500; ++i) {
      if (auto ended = program.poll()) co_return !*ended && ended->error().code == Errc::kTimeout ? 6 : 103;
      co_await sleep_for(Milliseconds(10));
    }
    co_return 104;
  };
  EXPECT_EXIT(with_starter(socket_, work), testing::ExitedWithCode(6), "");
}

}  // namespace
}  // namespace lifeboat
