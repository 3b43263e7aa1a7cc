// Job files: the shipped example, every mistake, and the way to the daemon and back.
#include "mpi/job.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace lifeboat {
namespace {

const std::string kMinimal = "name: j\nbundle: /b\ncommand: [/bin/a]\ncontainers: 2\n";  // 4 lines

std::string told(const std::string& text) {
  const auto job = parse_job(text, "job.yaml");
  if (job) return "";
  EXPECT_EQ(job.error().code, Errc::kInvalid);
  return job.error().message;
}

TEST(Job, ShippedExampleLoads) {
  const auto job = load_job(LIFEBOAT_SOURCE_DIR "/configs/hpl.yaml");
  ASSERT_TRUE(job.has_value()) << job.error().message;
  JobSpec expected;
  expected.name = "hpl";
  expected.bundle = LIFEBOAT_SOURCE_DIR "/build/bundles/hpl";
  expected.command = {"/usr/bin/xhpl"};
  expected.containers = 4;
  expected.fabric = "10g";
  expected.env = {{"OPENBLAS_NUM_THREADS", "1"}};
  expected.mounts = {{"/srv/lifeboat/hpl", "/work", false}};
  expected.nodes = {"n1", "n2"};
  expected.user = JobUser{1000, 1000};
  EXPECT_EQ(*job, expected);
}

TEST(Job, Defaults) {
  const auto job = parse_job(kMinimal, "job.yaml");
  ASSERT_TRUE(job.has_value()) << job.error().message;
  EXPECT_EQ(job->containers, 2);
  EXPECT_EQ(job->ranks_per_container, 1);
  EXPECT_EQ(job->memory_bytes, 1ull << 30);
  EXPECT_EQ(job->fabric, "");
  EXPECT_EQ(job->cwd, "/work");
  EXPECT_TRUE(job->env.empty() && job->mounts.empty() && job->nodes.empty());
  EXPECT_FALSE(job->user.has_value());
}

TEST(Job, RelativePathsAreBelowTheFile) {
  const std::string directory = ::testing::TempDir();
  const std::string path = directory + "/job_test.yaml";
  std::ofstream(path) << "name: j\nbundle: ./b/../bundle/\ncommand: [a]\ncontainers: 1\n"
                         "mounts:\n- {source: shared, target: /work, readonly: true}\n";
  const auto job = load_job(path);
  std::remove(path.c_str());
  ASSERT_TRUE(job.has_value()) << job.error().message;
  const std::string base = directory.substr(0, directory.find_last_not_of('/') + 1);
  EXPECT_EQ(job->bundle, base + "/bundle");
  ASSERT_EQ(job->mounts.size(), 1u);
  EXPECT_EQ(job->mounts[0], (JobMount{base + "/shared", "/work", true}));
}

TEST(Job, EveryMistakeInOneRun) {
  const std::string text =
      "name: My_Job\n"                                     // 1
      "bundle: bundles/hpl\n"                              // 2
      "command: xhpl\n"                                    // 3
      "containers: 65\n"                                   // 4
      "ranks_per_container: 0\n"                           // 5
      "memory: 1\n"                                        // 6
      "fabric: [1g]\n"                                     // 7
      "env: {A=B: 1, OK: , OK: 2}\n"                       // 8
      "mounts:\n"                                          // 9
      "- {source: data, target: /work}\n"                  // 10
      "- {source: /data, target: /work/, readonly: no}\n"  // 11
      "- {source: /data, target: /work/..}\n"              // 12
      "cwd: work\n"                                        // 13
      "nodes: [n1, N2]\n"                                  // 14
      "user: {uid: -1}\n"                                  // 15
      "image: x\n";                                        // 16
  const std::string name =
      "expected a name of 1 to 32 characters a-z, 0-9 or '-' (not first), got ";
  const std::string path = "expected an absolute path of at most 1024 bytes, got ";
  EXPECT_EQ(
      told(text),
      "job.yaml:1:7: name: " + name + "'My_Job'\n" + "job.yaml:2:9: bundle: " + path +
          "'bundles/hpl'\n" +
          "job.yaml:3:10: command: expected a list of 1 to 1024 entries, got 'xhpl'\n"
          "job.yaml:4:13: containers: expected an integer from 1 to 64, got '65'\n"
          "job.yaml:5:22: ranks_per_container: expected an integer from 1 to 64, got '0'\n"
          "job.yaml:6:9: memory: expected a size from 16MiB to 16TiB (unit B, KiB, MiB, GiB or "
          "TiB), got '1'\n"
          "job.yaml:7:9: fabric: expected a name of 1 to 8 characters a-z, 0-9 or '-' "
          "(not first), got a list\n"
          "job.yaml:8:7: env: expected a variable's name of 1 to 256 characters A-Z, a-z, 0-9 "
          "or '_' (digits not first), got 'A=B'\n"
          "job.yaml:8:15: env.OK: expected text of at most 32768 bytes (none: ''), got nothing\n"
          "job.yaml:8:21: env: key 'OK' appears twice (first at line 8)\n"
          "job.yaml:10:12: mounts[0].source: " +
          path + "'data'\n" +
          "job.yaml:11:27: mounts[1].target: '/work' appears twice (first at line 10)\n"
          "job.yaml:11:45: mounts[1].readonly: expected true or false, got 'no'\n"
          "job.yaml:12:27: mounts[2].target: the container's root cannot be mounted over\n"
          "job.yaml:13:6: cwd: " +
          path + "'work'\n" + "job.yaml:14:13: nodes[1]: " + name + "'N2'\n" +
          "job.yaml:15:7: user.gid: required key is missing\n"
          "job.yaml:15:13: user.uid: expected an integer from 0 to 4294967294, got '-1'\n"
          "job.yaml:16:1: image: unknown key");
}

TEST(Job, WritableRoot) {
  const std::string minimal = kMinimal;
  EXPECT_EQ(parse_job(minimal, "job.yaml")->writable_bytes, 0u);
  EXPECT_EQ(parse_job(minimal + "root: read-only\n", "job.yaml")->writable_bytes, 0u);
  EXPECT_EQ(parse_job(minimal + "root: overlay\n", "job.yaml")->writable_bytes, 1ull << 30);
  const auto job = parse_job(minimal + "root: overlay\nwritable: 3MiB\n", "job.yaml");
  ASSERT_TRUE(job.has_value()) << job.error().message;
  EXPECT_EQ(job->writable_bytes, 3u << 20);
  EXPECT_EQ(*parse_job(to_yaml(*job), "again.yaml"), *job);
  EXPECT_NE(told(minimal + "writable: 3MiB\n").find("only a container with `root: overlay`"),
            std::string::npos);
  EXPECT_NE(told(minimal + "root: tmpfs\n").find("one of read-only, overlay"), std::string::npos);
}

TEST(Job, WhatIsRequired) {
  EXPECT_EQ(told("cwd: /\n"),
            "job.yaml:1:1: name: required key is missing\n"
            "job.yaml:1:1: bundle: required key is missing\n"
            "job.yaml:1:1: command: required key is missing\n"
            "job.yaml:1:1: containers: required key is missing");
  EXPECT_EQ(told("name: j\nbundle: /b\ncommand: ['', x]\ncontainers: 1\n"),
            "job.yaml:3:10: command: the first entry names the program and must not be empty");
  EXPECT_EQ(told(""), "job.yaml:1:1: the file is empty");
}

void expect_round_trip(const JobSpec& job) {
  const std::string text = to_yaml(job);
  const auto again = parse_job(text, "sent.yaml");
  ASSERT_TRUE(again.has_value()) << again.error().message << "\n" << text;
  EXPECT_EQ(*again, job) << text;
}

TEST(Job, RoundTrip) {
  JobSpec job;
  job.name = "j";
  job.bundle = "/b";
  job.command = {"a"};
  expect_round_trip(job);

  job.name = "0";
  job.command = {"sh",
                 "-c",
                 "echo \"$X\" | grep 'a: b' # not a comment\n",
                 "",
                 "null",
                 "~",
                 "*a",
                 "&a",
                 "!t",
                 "- x",
                 "true",
                 "0x10",
                 " lead and trail ",
                 "\ttab\r\n",
                 "ü€𝄞",
                 "{}"};
  job.containers = 64;
  job.ranks_per_container = 3;
  job.memory_bytes = (1ull << 30) + 1;
  job.fabric = "10g";
  job.env = {{"Z", "1"}, {"A", ""}, {"PATH", "/bin:/usr/bin"}, {"yes", "no"}};
  job.mounts = {{"/with space", "/a", true}, {"/b'\"", "/\\", false}};
  job.cwd = "/";
  job.nodes = {"n1", "n1", "null"};
  job.user = JobUser{0, 4294967294};
  expect_round_trip(job);
}

TEST(Job, RoundTripOfEveryCharacter) {
  JobSpec job;
  job.name = "j";
  job.bundle = "/b";
  job.command = {"a"};
  for (unsigned code = 1; code < 0x800; ++code) {  // all one- and two-byte characters but NUL
    std::string character;
    if (code < 0x80) {
      character = static_cast<char>(code);
    } else {
      character = {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
    }
    job.command.resize(1 + (code - 1) / 16);
    job.command.back() += character;
  }
  job.command.insert(job.command.end(), {"\u2028\u2029\ufeff", "\ufffd", "\U0001f6df"});
  expect_round_trip(job);
}

}  // namespace
}  // namespace lifeboat
