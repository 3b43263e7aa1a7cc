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
    options.argv = {fs::read_symlink("/proc/self/exe").parent_path() / "lifeboat-starter", "--socket", socket_};
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

}  // namespace
}  // namespace lifeboat
