// Slurm's commands, played by scripts: what they are asked, and what becomes of one that fails or hangs.
#include "slurm/commands.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/file.hpp"

namespace lifeboat::slurm {
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
  if (!result) throw std::runtime_error("did not end within 20 s");
  return std::move(*result);
}

// Each command writes its arguments, one a line, into `asked`, and then does what a test says.
class SlurmCommands : public testing::Test {
 protected:
  SlurmCommands() {
    char name[] = "/tmp/lifeboat-slurm-XXXXXX";
    config_.bin = ::mkdtemp(name);
    config_.timeout = Milliseconds(10'000);
  }
  ~SlurmCommands() override { std::filesystem::remove_all(config_.bin); }

  void play(const std::string& command, const std::string& script) {
    const std::string path = config_.bin + "/" + command;
    std::ofstream(path) << "#!/bin/sh\nprintf '%s\\n' \"$@\" > " << config_.bin << "/asked\n" << script << "\n";
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
  std::string asked() const { return read_file(config_.bin + "/asked").value_or(""); }

  SlurmConfig config_;
};

TEST_F(SlurmCommands, ANodeIsAskedForAndToldOf) {
  play("scontrol", "echo 'NodeName=n2'; echo ' State=IDLE+DRAIN x=1'; echo ' Reason=bad disk [root@2026-01-31]'");
  const auto shown = run(show_node(config_, "n2"));
  ASSERT_TRUE(shown) << shown.error().message;
  EXPECT_TRUE(shown->drain);
  EXPECT_EQ(shown->reason, "bad disk");
  EXPECT_EQ(asked(), "show\nnode\nn2\n");
  EXPECT_TRUE(run(set_node(config_, "n2", {NodeWish::kFail, "lifeboat: a fan = 'loud' [demo/n2/12]"})));
  EXPECT_EQ(asked(), "update\nnodename=n2\nstate=FAIL\nreason=lifeboat: a fan = 'loud' [demo/n2/12]\n");
  EXPECT_TRUE(run(set_node(config_, "n2", {NodeWish::kDrain, "x"})));
  EXPECT_EQ(asked(), "update\nnodename=n2\nstate=DRAIN\nreason=x\n");
  EXPECT_TRUE(run(clear_node(config_, "n2")));
  EXPECT_EQ(asked(), "update\nnodename=n2\nstate=UNDRAIN\n");
}

TEST_F(SlurmCommands, FailuresSayWhat) {
  EXPECT_EQ(run(show_node(config_, "n2")).error().code, Errc::kUnavailable);
  EXPECT_NE(run(show_node(config_, "n2")).error().message.find("slurm.bin"), std::string::npos);
  play("scontrol", "echo 'Node n2 not found' >&2; exit 1");
  EXPECT_EQ(run(show_node(config_, "n2")).error().message, "scontrol show: Node n2 not found");
  EXPECT_EQ(run(clear_node(config_, "n2")).error().code, Errc::kSystem);
  play("scontrol", "exit 3");
  EXPECT_EQ(run(show_node(config_, "n2")).error().message, "scontrol show: it failed and said nothing");
  play("scontrol", "head -c 3000000 /dev/zero | tr '\\0' x; exit 1");
  EXPECT_LT(run(show_node(config_, "n2")).error().message.size(), 1000U);
}

TEST_F(SlurmCommands, OneThatHangsIsEnded) {
  config_.timeout = Milliseconds(200);
  play("scontrol", "exec sleep 60");
  const auto start = std::chrono::steady_clock::now();
  const auto shown = run(show_node(config_, "n2"));
  EXPECT_EQ(shown.error().code, Errc::kTimeout);
  EXPECT_EQ(shown.error().message, "scontrol has not answered within 200 ms");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST_F(SlurmCommands, NodesOfAJob) {
  play("scontrol", "printf 'n1\\nn3\\n'");
  play("squeue", "echo '7|RUNNING|n[1,3]'");
  EXPECT_EQ(run(nodes_of_job(config_, 7)).value(), (std::vector<std::string>{"n1", "n3"}));
  EXPECT_EQ(asked(), "show\nhostnames\nn[1,3]\n");
  play("squeue", "echo '7|COMPLETING|n[1,3]'");
  EXPECT_TRUE(run(nodes_of_job(config_, 7)).value().empty());
  EXPECT_EQ(asked(), "-h\n-t\nall\n-j\n7\n-o\n%A|%T|%N\n");
  play("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
  EXPECT_TRUE(run(nodes_of_job(config_, 7)).value().empty());
  play("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1");
  EXPECT_FALSE(run(nodes_of_job(config_, 7))) << "not to hear is not to have ended";
  play("squeue", "echo nonsense");
  EXPECT_EQ(run(nodes_of_job(config_, 7)).error().code, Errc::kProtocol);
}

TEST_F(SlurmCommands, AllNodes) {
  play("sinfo", "echo 'n1|idle|none'; echo 'n2|drained|bad disk'");
  const auto nodes = run(list_nodes(config_, "demo"));
  ASSERT_TRUE(nodes) << nodes.error().message;
  EXPECT_EQ(nodes->idle, std::set<std::string>{"n1"});
  EXPECT_EQ(nodes->closed, std::set<std::string>{"n2"});
}

}  // namespace
}  // namespace lifeboat::slurm
