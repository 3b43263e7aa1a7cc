// preflight.hpp - what must be true of both nodes before a container is touched.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/json.hpp"
#include "base/result.hpp"
#include "config.hpp"

namespace lifeboat {

// What of a node decides whether a process that ran there can run here.
struct NodeFacts {
  std::string kernel;                  // uname -r
  std::string machine;                 // x86_64
  std::vector<std::string> cpu_flags;  // sorted
  unsigned criu_version = 0;           // 40201 for 4.2.1; 0: none that works
  std::string criu_problem;            // why there is none
  // Not for peers:
  std::string tracking_problem;         // why no memory can be sent while its container runs
  std::optional<unsigned> only_of_uid;  // CRIU can move the processes of this user alone
};

json::object to_json(const NodeFacts& facts);
Result<NodeFacts> node_facts_from(const json::object& object);

// Looks at this node. Runs `criu --version` and `criu check` (tens of ms) and tracks a process of its own: once
// per daemon.
awaitable<NodeFacts> gather_facts(const Config& config);

// The oldest CRIU whose images and RPC Lifeboat knows.
inline constexpr unsigned kCriuVersionMin = 31700;
std::string criu_version_text(unsigned version);

// kRefused with the first reason why a process of `source` cannot go on at `target`.
Status check_compatible(const NodeFacts& source, const NodeFacts& target);

// kRefused when CRIU could not dump or restore a process of this user here: without
// CAP_SYS_RESOURCE the kernel shows resource limits only to a process's own user.
Status check_user(const NodeFacts& facts, unsigned uid);

bool is_on_tmpfs(const std::string& directory);

// Bytes that could be allocated now without swapping (MemAvailable).
std::uint64_t memory_available_bytes();

}  // namespace lifeboat
