// What mpiexec is told, and what it says.
#include "launch.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace lifeboat {
namespace {

using Words = std::vector<std::string>;

JobSpec job() {
  JobSpec spec;
  spec.name = "j";
  spec.command = {"/bin/a", "x y"};
  spec.containers = 2;
  spec.fabric = "10g";
  return spec;
}

LaunchPlan plan() {
  LaunchPlan out;
  out.addresses = {"10.2.1.1", "10.2.1.2"};
  out.bridge = "br-10g";
  return out;
}

std::vector<std::string> values(const std::vector<std::pair<std::string, std::string>>& env,
                                const std::string& key) {
  std::vector<std::string> found;
  for (const auto& item : env) {
    if (item.first == key) found.push_back(item.second);
  }
  return found;
}

TEST(Launch, CommandLine) {
  JobSpec spec = job();
  spec.ranks_per_container = 3;
  const Words words = mpiexec_command(spec, plan());
  ASSERT_GT(words.size(), 10u);
  EXPECT_EQ(Words(words.begin(), words.begin() + 10),
            (Words{"mpiexec.mpich", "-launcher", "manual", "-iface", "br-10g", "-hosts",
                   "10.2.1.1:3,10.2.1.2:3", "-bind-to", "none", "-genvnone"}));
  EXPECT_EQ(Words(words.end() - 4, words.end()), (Words{"-n", "6", "/bin/a", "x y"}));
}

TEST(Launch, OnlyTransportsThatCanBeMoved) {
  JobSpec spec = job();
  EXPECT_EQ(values(rank_environment(spec, plan()), "UCX_TLS"), Words{"tcp,self"});
  spec.ranks_per_container = 2;
  EXPECT_EQ(values(rank_environment(spec, plan()), "UCX_TLS"), Words{"tcp,self,posix"});
  const auto env = rank_environment(spec, plan());
  EXPECT_EQ(values(env, "UCX_NET_DEVICES"), Words{"10g"});
  EXPECT_EQ(values(env, "UCX_TCP_KEEPIDLE"), Words{"inf"});
  EXPECT_TRUE(values(env, "LD_PRELOAD").empty());
}

TEST(Launch, TheJobsOwnEnvironmentWins) {
  JobSpec spec = job();
  spec.env = {{"UCX_TLS", "all"}, {"MINE", ""}, {"MINE", "2"}};
  LaunchPlan with_library = plan();
  with_library.preload = "/lib/x.so";
  const auto env = rank_environment(spec, with_library);
  EXPECT_EQ(values(env, "UCX_TLS"), Words{"all"});
  EXPECT_EQ(values(env, "MINE"), Words{"2"});
  EXPECT_EQ(values(env, "LD_PRELOAD"), Words{"/lib/x.so"});
}

TEST(Launch, ProxyCommands) {
  const ProxyCommands found = parse_proxy_commands(
      "HYDRA_LAUNCH: /usr/bin/hydra_pmi_proxy --control-port 10.2.0.10:1 --rmk user \n"
      "HYDRA_LAUNCH: \"/opt/my mpi/proxy\"  --empty \"\" --proxy-id 1\n"
      "something else\n"
      "HYDRA_LAUNCH_END\n");
  EXPECT_TRUE(found.complete);
  ASSERT_EQ(found.commands.size(), 2u);
  EXPECT_EQ(found.commands[0], (Words{"/usr/bin/hydra_pmi_proxy", "--control-port", "10.2.0.10:1",
                                      "--rmk", "user"}));
  EXPECT_EQ(found.commands[1], (Words{"/opt/my mpi/proxy", "--empty", "", "--proxy-id", "1"}));
}

TEST(Launch, IncompleteOutput) {
  EXPECT_FALSE(parse_proxy_commands("").complete);
  const ProxyCommands half = parse_proxy_commands("HYDRA_LAUNCH: a b\nHYDRA_LAUNCH: a");
  EXPECT_FALSE(half.complete);
  EXPECT_EQ(half.commands.size(), 2u);
}

TEST(Launch, OutputWithoutLaunchLines) {
  EXPECT_EQ(without_launch_lines("HYDRA_LAUNCH: a\nout\nHYDRA_LAUNCH_END\n"), "out\n");
  EXPECT_EQ(without_launch_lines("a HYDRA_LAUNCH: b\n\nlast"), "a HYDRA_LAUNCH: b\n\nlast");
  EXPECT_EQ(without_launch_lines("HYDRA_LAUNC"), "HYDRA_LAUNC");
  EXPECT_EQ(without_launch_lines(""), "");
}

}  // namespace
}  // namespace lifeboat
