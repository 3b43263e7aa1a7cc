// commands.hpp - Slurm, asked by its own commands (scontrol, squeue, sinfo). Not by libslurm, which is tied to
// one release of it.
//
// Each call starts one process, which is ended after slurm.timeout: with its controller hung a command blocks
// for as long as it likes. So nothing that somebody waits for may wait for one of these.
// kTimeout: ended so. kUnavailable: it cannot be started. kSystem: it failed, with what it printed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "config.hpp"
#include "slurm/text.hpp"

namespace lifeboat::slurm {

awaitable<Result<NodeShown>> show_node(SlurmConfig config, std::string node);
// `wanted` is not kNothing.
awaitable<Status> set_node(SlurmConfig config, std::string node, NodeWanted wanted);
// Takes back FAIL and DRAIN with their reason; a node without them, or one that is down, stays as it is.
awaitable<Status> clear_node(SlurmConfig config, std::string node);

// The names of a job's nodes; none once it has ended, or is to start anew.
awaitable<Result<std::vector<std::string>>> nodes_of_job(SlurmConfig config, std::uint64_t job);
// All nodes; `cluster` is ours.
awaitable<Result<NodesListed>> list_nodes(SlurmConfig config, std::string cluster);

// The script of a batch job, as its owner or root may read it.
awaitable<Result<std::string>> batch_script(SlurmConfig config, std::string job);

}  // namespace lifeboat::slurm
