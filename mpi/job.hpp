// job.hpp - what a user asks for: an MPI program in N containers (configs/hpl.yaml is an example).
//
// The command line loads the file, where paths may be relative to it, and sends to_yaml() to the
// daemon, which trusts nothing and parses it again: there every path must be absolute.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace lifeboat {

// A directory that exists under the same path on every node, seen in the container as `target`.
struct JobMount {
  std::string source;
  std::string target;
  bool readonly = false;

  bool operator==(const JobMount&) const = default;
};

struct JobUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;

  bool operator==(const JobUser&) const = default;
};

struct JobSpec {
  std::string name;
  std::string bundle;                // directory of the OCI bundle, same path on every node
  std::vector<std::string> command;  // of one rank; the first is the program, in the container
  int containers = 1;                // 1 to 64
  int ranks_per_container = 1;       // 1 to 64
  std::uint64_t memory_bytes = 1ull << 30;  // of one container
  std::uint64_t writable_bytes = 0;         // of its overlay root's layer; 0: the root is read-only
  std::string fabric;                       // the ranks talk on; empty: the cluster's default
  std::vector<std::pair<std::string, std::string>> env;
  std::vector<JobMount> mounts;
  std::string cwd = "/work";       // in the container
  std::vector<std::string> nodes;  // to place on, in turn; empty: the planner chooses
  std::optional<JobUser> user;     // absent: as the bundle says

  bool operator==(const JobSpec&) const = default;
};

// Both: kInvalid with every mistake, one a line, `file:line:col: path: message`.
// load_job takes relative `bundle` and `mounts[].source` as below the file's directory (and kSystem
// if the file cannot be read); for parse_job they are mistakes, and `name` stands for the file.
Result<JobSpec> load_job(const std::string& path);
Result<JobSpec> parse_job(std::string_view text, const std::string& name);

// Text that parse_job() reads back as the same job, provided `job` came from one of the above.
std::string to_yaml(const JobSpec& job);

}  // namespace lifeboat
