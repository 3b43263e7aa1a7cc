// launch.hpp - starting an MPICH job whose ranks live in containers.
//
// `mpiexec -launcher manual` starts nothing itself: it prints one hydra_pmi_proxy command per host
// and waits for them to connect back over TCP. Lifeboat starts each in its container. mpiexec runs
// on the head node, outside every container, so the loss of a compute node does not take it along.
//
// Source of the behaviour: MPICH 4.0.2, src/pm/hydra (launcher "manual").
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/asio.hpp"
#include "base/process.hpp"
#include "base/result.hpp"
#include "job.hpp"

namespace lifeboat {

struct LaunchPlan {
  std::vector<std::string> addresses;  // of the containers, in order, on the job's fabric
  std::string bridge;                  // the head's interface on that fabric
  std::string output_path;             // stdout and stderr of the job
  std::string exit_path;               // gets mpiexec's exit status, as text, when it ends
  std::string preload;                 // library preloaded into the ranks; empty: none
};

struct Launch {
  Process mpiexec;
  std::vector<std::vector<std::string>> proxies;  // one command per container
};

// Starts mpiexec and waits until it has said what to start where. kUnavailable when there is no
// mpiexec, kSystem with its own words when it fails.
awaitable<Result<Launch>> launch_mpiexec(const JobSpec& job, const LaunchPlan& plan);

// The environment of the ranks: what makes MPICH and UCX survive a freeze of minutes, and keeps
// them off transports that cannot be moved. The job's own `env` wins.
std::vector<std::pair<std::string, std::string>> rank_environment(const JobSpec& job,
                                                                  const LaunchPlan& plan);

// Where an image keeps the library that lets MPI_Finalize of MPICH before 4.2 end
// (mpi/finalize/finalize.c): from the package lifeboat-mpi, or put there by hand.
inline constexpr const char* kFinalizeLibraries[] = {"/usr/lib/lifeboat/liblifeboat-finalize.so",
                                                     "/usr/local/lib/liblifeboat-finalize.so"};

// The mpiexec command line.
std::vector<std::string> mpiexec_command(const JobSpec& job, const LaunchPlan& plan);

// What "HYDRA_LAUNCH: ..." lines say; complete once HYDRA_LAUNCH_END has been seen.
struct ProxyCommands {
  std::vector<std::vector<std::string>> commands;
  bool complete = false;
};
ProxyCommands parse_proxy_commands(const std::string& output);

// The job's output without the lines that only Lifeboat needs.
std::string without_launch_lines(const std::string& output);

}  // namespace lifeboat
