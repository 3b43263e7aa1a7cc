// `lifeboat run` in a job of Slurm.
#include <charconv>
#include <cstdlib>
#include <iostream>

#include "cli/cli.hpp"
#include "slurm/commands.hpp"

namespace lifeboat {

namespace {

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Empty: there is none, or Slurm does not tell; then what it could say is warned about.
std::string script_of(const std::string& job) {
  SlurmConfig slurm;
  slurm.timeout = Milliseconds(3000);
  asio::io_context context(1);
  std::string script;
  const auto ask = [](SlurmConfig config, std::string id, std::string& out) -> awaitable<void> {
    out = (co_await slurm::batch_script(std::move(config), std::move(id))).value_or("");
  };
  asio::co_spawn(context, ask(slurm, job, script), asio::detached);
  context.run();
  return script;
}

}  // namespace

void add_slurm_job(json::object& request) {
  const std::string id = variable("SLURM_JOB_ID");
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(id.data(), id.data() + id.size(), number);
  if (id.empty() || parsed.ec != std::errc() || parsed.ptr != id.data() + id.size()) return;
  request["slurm_job"] = number;
  slurm::JobEnvironment job;
  job.job_id = id;
  job.step_nodes = variable("SLURM_STEP_NUM_NODES");
  job.no_kill = !variable("SBATCH_NO_KILL").empty() || !variable("SALLOC_NO_KILL").empty();
  for (const std::string& warning : slurm::warnings_for(job, job.no_kill ? "" : script_of(id))) {
    std::cerr << "lifeboat: warning: " << warning << "\n";
  }
}

}  // namespace lifeboat
