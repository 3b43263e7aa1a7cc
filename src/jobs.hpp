// jobs.hpp - MPI jobs: placed, started through Hydra, followed to their end.
//
// A job lives on the head node, in state_dir/jobs/NAME: mpiexec runs there, its output and exit
// status are files, so a job outlives both the command that started it and the daemon.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/blocking.hpp"
#include "base/json.hpp"
#include "base/process.hpp"
#include "base/result.hpp"
#include "container_spec.hpp"
#include "job.hpp"
#include "node.hpp"
#include "slurm/contact.hpp"
#include "slurm/text.hpp"

namespace lifeboat {

class Agent;

struct Job {
  JobSpec spec;
  std::string directory;
  std::string started_at;
  std::vector<std::string> containers;
  Process mpiexec;
  bool running = false;
  std::optional<int> exit_code;  // empty while running, or when nobody saw it
  std::string error;             // why it could not be started
  std::uint64_t slurm_job = 0;   // that it was started in; 0: none
  std::vector<std::string> allocation;  // that job's nodes, as last known
  std::string asked_by;          // the compute node in that job where `lifeboat run` was typed; empty: a head
};

class Jobs {
 public:
  Jobs(Agent& agent, Node& node) : agent_(agent), node_(node) {}

  // Starts a job; returns once its containers run. On failure nothing is left running.
  awaitable<Result<json::object>> run(json::object params);
  Result<json::object> get(const json::object& params) const;
  Result<json::object> list() const;
  // Output from `offset` on, at most 256 KiB, without Hydra's launch lines.
  Result<json::object> logs(const json::object& params) const;
  awaitable<Result<json::object>> kill(json::object params);
  // Follows the jobs of an earlier daemon.
  void adopt_all();

  // jobs_slurm.cpp. Asks Slurm for its nodes, and those of its jobs here, now and then, until the program ends.
  void follow_slurm();
  // {"allocations": {job: [nodes]}, "idle": [nodes], "closed": [nodes]}, as last known: what planners may use of
  // Slurm's nodes. `idle` is empty unless slurm.outside_allocation allows it.
  [[nodiscard]] json::object slurm_view() const;
  // Whether the job runs, and was asked for by this compute node.
  [[nodiscard]] bool was_asked_by(const std::string& job, const std::string& node) const;

 private:
  awaitable<Status> start(std::shared_ptr<Job> job);
  awaitable<Result<std::vector<ContainerSpec>>> plan_containers(const Job& job,
                                                                std::vector<std::string>& nodes);
  awaitable<void> follow(std::shared_ptr<Job> job);
  awaitable<std::string> why_lost(const Job& job);
  awaitable<std::string> find_lost(const Job& job, std::map<std::string, int>& missed);
  [[nodiscard]] std::vector<std::string> compute_nodes() const;
  awaitable<void> remove_containers(std::vector<std::string> ids);
  awaitable<Status> take_allocation(std::shared_ptr<Job> job);
  awaitable<void> ask_slurm();
  awaitable<Status> look_at_slurm();
  awaitable<Status> make_place(std::shared_ptr<Job> job);
  awaitable<Status> save(std::shared_ptr<Job> job);
  Result<std::shared_ptr<Job>> find(const json::object& params) const;

  Agent& agent_;
  Node& node_;
  std::map<std::string, std::shared_ptr<Job>> jobs_;
  AsyncMutex starting_;
  asio::thread_pool disk_{1};  // one that hangs is nothing that may keep the head from answering
  slurm::Contact slurm_;
  slurm::NodesListed slurm_nodes_;
};

}  // namespace lifeboat
