// text.hpp - what Slurm's commands print, and what they are to be told: pure, so that all of it is tested
// without a Slurm.
//
// The commands' plain forms are used, which are the same from release to release; their JSON is not.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "predictor/node_state.hpp"

namespace lifeboat::slurm {

// A node as `scontrol show node NAME` shows it.
struct NodeShown {
  bool fail = false;  // the flags that keep jobs off it; it may have several
  bool drain = false;
  bool down = false;
  std::string reason;  // without who set it, and when
};
// kProtocol: it is none, or has no state.
Result<NodeShown> node_from(std::string_view text);

// What Slurm is to say of a node.
enum class NodeWish { kNothing, kFail, kDrain };
struct NodeWanted {
  NodeWish state = NodeWish::kNothing;
  std::string reason;
};

// Whose reasons are ours: those that begin with "lifeboat: " and end with "[CLUSTER/NODE/NUMBER]".
struct Owner {
  std::string cluster;
  std::string node;
};
[[nodiscard]] bool is_ours(std::string_view reason, const Owner& owner);

// FAIL, what is expected to fail or came back a short time ago; DRAIN, what only an operator speaks against.
// Never DOWN: that ends the jobs on it, and Slurm sees by itself when it is. The NUMBER is since when, in
// seconds since 1970.
[[nodiscard]] NodeWanted wanted_for(const predictor::NodeState& state, const Owner& owner);

enum class NodeStep {
  kNothing,  // it is as it should be
  kSet,
  kClear,
  kForeign,  // somebody else keeps jobs off it: their word stays
};
[[nodiscard]] NodeStep next_step(const NodeWanted& wanted, const NodeShown& shown, const Owner& owner);

// A job as `squeue -o "%A|%T|%N"` lists it.
struct JobListed {
  std::uint64_t id = 0;
  bool has_nodes = false;  // else they are somebody else's, or soon will be; also of one that is to start anew
  std::string nodes;       // "n[1-3,7]"
};
// kProtocol naming the line that is none.
Result<std::vector<JobListed>> jobs_from(std::string_view text);

// All nodes as `sinfo -N -o "%N|%T|%E"` lists them.
struct NodesListed {
  std::set<std::string> idle;    // no job has them, and one may have them
  std::set<std::string> closed;  // drained, failed or down, for another reason than a node's of this cluster
};
// kProtocol naming the line that is none.
Result<NodesListed> nodes_from(std::string_view text, const std::string& cluster);

// The lines of a list of names.
[[nodiscard]] std::vector<std::string> lines_of(std::string_view text);

// How a `lifeboat run` sees that it is in a Slurm job: by what is in its environment.
struct JobEnvironment {
  std::string job_id;  // SLURM_JOB_ID
  std::string step_nodes;  // SLURM_STEP_NUM_NODES; empty: no step
  bool no_kill = false;    // SBATCH_NO_KILL or SALLOC_NO_KILL
};
// What would end the job with any one of its nodes, and what to write against it. `script` is the batch script;
// empty: there is none, or Slurm does not give it out.
[[nodiscard]] std::vector<std::string> warnings_for(const JobEnvironment& job, std::string_view script);

}  // namespace lifeboat::slurm
