// Jobs that were started in a job of Slurm: on its nodes, for as long as it has them.
#include <signal.h>

#include <algorithm>

#include "agent.hpp"
#include "base/log.hpp"
#include "jobs.hpp"
#include "slurm/commands.hpp"

namespace lifeboat {

namespace {

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

bool is_in(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

// What the environment of `lifeboat run` says is asked of Slurm again: it may come from a compute node, which may
// have jobs run on the nodes of its own Slurm jobs alone.
awaitable<Status> Jobs::take_allocation(std::shared_ptr<Job> job) {
  SlurmConfig slurm = node_.config().slurm;
  const std::string what = "Slurm job " + std::to_string(job->slurm_job);
  // Who asks from another node waits for all of it no longer than for any request.
  slurm.timeout = std::min(slurm.timeout, node_.config().timeouts.request / 3);
  auto nodes = co_await slurm::nodes_of_job(slurm, job->slurm_job);
  slurm_.tell(nodes ? Status{} : Status(tl::unexpected<Error>(nodes.error())));
  if (!nodes) co_return tl::unexpected<Error>(nodes.error().context("nodes of " + what));
  job->allocation = std::move(*nodes);
  if (job->allocation.empty()) co_return fail(Errc::kRefused, what + " is not running");
  if (!job->asked_by.empty() && !is_in(job->allocation, job->asked_by)) {
    co_return fail(Errc::kRefused, "node " + job->asked_by + " is none of " + what + " (" +
                                       listed(job->allocation) + "); use the command on a head node");
  }
  for (const std::string& name : job->spec.nodes) {
    if (is_in(job->allocation, name)) continue;
    co_return fail(Errc::kRefused, "node " + name + ", named by the job, is none of " + what + " (" +
                                       listed(job->allocation) + ")");
  }
  co_return Status{};
}

void Jobs::follow_slurm() {
  run_detached(node_.executor(), "asking Slurm for the nodes of jobs", ask_slurm());
}

awaitable<void> Jobs::ask_slurm() {
  for (;;) {
    const Status done = co_await look_at_slurm();
    slurm_.tell(done);
    co_await sleep_for(node_.config().slurm.refresh);
  }
}

// What is not heard stays as it was. Nodes of a Slurm job that has ended are somebody else's: `lifeboat run` was
// told to end before, unless its own node has died.
awaitable<Status> Jobs::look_at_slurm() {
  const SlurmConfig& slurm = node_.config().slurm;
  CO_TRY(slurm_nodes_, co_await slurm::list_nodes(slurm, node_.config().cluster));
  if (!slurm.outside_allocation) slurm_nodes_.idle.clear();
  const std::map<std::string, std::shared_ptr<Job>> jobs = jobs_;  // others may come and go meanwhile
  for (const auto& [name, job] : jobs) {
    if (!job->running || job->slurm_job == 0) continue;
    CO_TRY(std::vector<std::string> nodes, co_await slurm::nodes_of_job(slurm, job->slurm_job));
    if (!job->running) continue;
    if (nodes.empty()) {
      job->error = "its Slurm job " + std::to_string(job->slurm_job) + " has ended";
      log::warn("ending a job", {{"job", name}, {"reason", job->error}});
      job->mpiexec.signal_group(SIGKILL);
    } else if (nodes != job->allocation) {
      log::info("the nodes of a job in Slurm have changed", {{"job", name}, {"nodes", listed(nodes)}});
      job->allocation = std::move(nodes);
      (void)co_await save(job);
    }
  }
  co_return Status{};
}

json::object Jobs::slurm_view() const {
  json::object allocations;
  for (const auto& [name, job] : jobs_) {
    if (job->running && job->slurm_job != 0) allocations[name] = to_array(job->allocation);
  }
  const auto listed_in = [](const std::set<std::string>& names) {
    return to_array({names.begin(), names.end()});
  };
  return {{"allocations", std::move(allocations)},
          {"idle", listed_in(slurm_nodes_.idle)},
          {"closed", listed_in(slurm_nodes_.closed)}};
}

bool Jobs::was_asked_by(const std::string& job, const std::string& node) const {
  const auto at = jobs_.find(job);
  return at != jobs_.end() && at->second->asked_by == node;
}

}  // namespace lifeboat
