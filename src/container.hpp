// container.hpp - one container living on this node: its processes, cgroup, network and record.
//
// A Container owns what it made. Destroying a Container object removes the network ends and the
// cgroup with everything in it; release() first when the container is to outlive the daemon.
// The record in run_dir (tmpfs: gone after a reboot, as the container is) lets a restarted daemon
// adopt what runs.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/cgroup.hpp"
#include "base/process.hpp"
#include "config.hpp"
#include "container_spec.hpp"
#include "layer_directory.hpp"

namespace lifeboat {

enum class ContainerState {
  kStarting,
  kRunning,
  kLeaving,   // being migrated away; frozen for part of it
  kArriving,  // restored here but not yet committed
  kInDoubt,   // the target may have committed: frozen until the outcome is known
  kDraining,  // runs at the target, which may still need pages from here: frozen for ever
  kExited,
};

[[nodiscard]] const char* to_string(ContainerState state);

// Where a container was before it came here, and when that was.
struct Origin {
  std::string node;  // empty: it was started here
  std::chrono::system_clock::time_point at;
};

class Container {
 public:
  // Starts a new container with the OCI runtime. On failure nothing is left.
  static awaitable<Result<std::unique_ptr<Container>>> start(ContainerSpec spec,
                                                             const Config& config);
  // Prepares the place for one that is about to be restored: cgroup, network (unplugged).
  static Result<std::unique_ptr<Container>> prepare(ContainerSpec spec, const Config& config,
                                                    NetPurpose purpose = NetPurpose::kRestore);
  // Takes over what a record describes; nullptr when its processes are gone (then it is cleaned).
  static Result<std::unique_ptr<Container>> adopt(const std::string& directory,
                                                  const Config& config);
  ~Container();
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  [[nodiscard]] const ContainerSpec& spec() const { return spec_; }
  [[nodiscard]] ContainerState state() const { return state_; }
  [[nodiscard]] Process& init() { return init_; }
  [[nodiscard]] const Process& init() const { return init_; }
  [[nodiscard]] const Cgroup& cgroup() const { return cgroup_; }
  [[nodiscard]] ContainerNet& net() { return *net_; }
  [[nodiscard]] const std::string& directory() const { return directory_; }
  // The migration that this state belongs to; empty when none.
  [[nodiscard]] const std::string& migration() const { return migration_; }
  [[nodiscard]] const std::string& migration_peer() const { return migration_peer_; }

  [[nodiscard]] const Origin& origin() const { return origin_; }
  // Of its ownership record; 0: not known. Written with the next set_state().
  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }
  void set_epoch(std::uint64_t epoch) { epoch_ = epoch; }

  // Changes state and writes the record. From arriving to running, it has come from the peer.
  Status set_state(ContainerState state, const std::string& migration = "",
                   const std::string& peer = "");
  // The restored processes, before they run.
  void set_init(Process init);

  // It is about to end, or has, not by itself: why, for its job's owner.
  [[nodiscard]] const std::string& lost() const { return lost_; }
  void set_lost(std::string reason) { lost_ = std::move(reason); }

  // Its memory is still being put in place by its pager: it runs, but cannot be moved yet.
  [[nodiscard]] bool filling() const { return filling_; }
  void set_filling(bool filling) { filling_ = filling; }
  [[nodiscard]] std::string pager_socket() const { return directory_ + "/pager.sock"; }

  [[nodiscard]] std::uint64_t resident_bytes() const;
  [[nodiscard]] unsigned init_uid() const;
  // What the container's command printed, from `offset` on; works for a while after its exit.
  [[nodiscard]] Result<std::string> output(std::uint64_t offset) const;

  // Its writable root; none: the root is read-only.
  [[nodiscard]] const std::optional<LayerDirectory>& layer() const { return layer_; }

  // Leaves everything as it is on destruction.
  void release() { released_ = true; }
  // Removes everything that is there of it now: processes, network, cgroup, record.
  void destroy();

 private:
  Container(ContainerSpec spec, Cgroup cgroup, ContainerNet net, std::string directory);
  void open_output();
  // `crun COMMAND ARGUMENTS ID`; what it says where it fails.
  awaitable<Status> run_crun(const Config& config, std::string command, std::vector<std::string> arguments);
  awaitable<Status> create_and_start(const Config& config);

  ContainerSpec spec_;
  Cgroup cgroup_;
  std::optional<ContainerNet> net_;  // empty once destroyed
  std::string directory_;
  std::optional<LayerDirectory> layer_;
  Process init_;
  Fd output_directory_;  // the container's /run: pins its tmpfs
  ContainerState state_ = ContainerState::kStarting;
  std::string migration_;
  std::string migration_peer_;
  Origin origin_;
  std::uint64_t epoch_ = 0;
  std::string lost_;
  bool released_ = false;
  bool filling_ = false;
};

}  // namespace lifeboat
