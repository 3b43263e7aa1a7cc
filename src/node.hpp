// node.hpp - what lives on this node: containers, migrations in and out, and how earlier ones
// ended. Shared by the agent and the migrations; used from the event loop only.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/asio.hpp"
#include "base/disk_thread.hpp"
#include "config.hpp"
#include "container.hpp"
#include "criu_glue/pager.hpp"
#include "health.hpp"
#include "journal.hpp"
#include "memory_account.hpp"
#include "migration/link.hpp"
#include "migration/wire.hpp"
#include "migration_queue.hpp"
#include "node_metrics.hpp"
#include "preflight.hpp"
#include "registry/owners.hpp"
#include "report.hpp"

namespace lifeboat {

// A container that ended here: kept for `lifeboat ps` and `logs`.
struct ExitedContainer {
  std::string id;
  std::string job;
  std::optional<ExitStatus> status;  // empty: not known (it was adopted after a restart)
  std::string output;
  std::string lost;   // why it did not end by itself; empty: it did, for all that is known
  std::string at = {};  // when, as in reports
};

// What asks for room: one that arrives may have what those that are leaving will give back.
enum class Incoming { kNew, kArriving };

class Node {
 public:
  Node(asio::any_io_executor executor, Config config, std::string name);

  [[nodiscard]] const Config& config() const { return config_; }
  ConfigChanges reload(Config newer) { return config_.reload(std::move(newer)); }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const NodeConfig& self() const { return *config_.find_node(name_); }
  // How links to others begin.
  [[nodiscard]] LinkSelf link_self() const { return {config_.cluster, name_, credentials_}; }
  [[nodiscard]] PeerAddress peer_address(const std::string& node, const std::string& address) const {
    return {node, address, config_.peer_port};
  }
  // Before the first link; null, as at first: nothing is encrypted (security.insecure).
  void set_credentials(std::shared_ptr<Credentials> credentials) { credentials_ = std::move(credentials); }
  [[nodiscard]] const std::shared_ptr<Credentials>& credentials() const { return credentials_; }
  [[nodiscard]] const NodeFacts& facts() const { return facts_; }
  void set_facts(NodeFacts facts) { facts_ = std::move(facts); }
  // Its own state, and what it knows of others.
  [[nodiscard]] Health& health() { return health_; }
  [[nodiscard]] const Health& health() const { return health_; }
  [[nodiscard]] const asio::any_io_executor& executor() const { return executor_; }

  using Containers = std::map<std::string, std::shared_ptr<Container>>;
  [[nodiscard]] const Containers& containers() const { return containers_; }
  [[nodiscard]] std::shared_ptr<Container> find(const std::string& id) const;
  [[nodiscard]] const std::deque<ExitedContainer>& exited() const { return exited_; }

  // kRefused or kConflict when `spec` cannot come to live here: no compute node, no room (memory,
  // slots), its id or an address in use.
  [[nodiscard]] Status check_room(const ContainerSpec& spec, Incoming incoming) const;
  // Why an arrival must wait; empty: it need not. Because as many arrive already as
  // limits.arrivals_per_node allows, or others asked before; or because there is room only once others
  // have left. For that it does not wait while the machine really has the memory: else full nodes
  // could never exchange containers. (Should a leaving one stay after all, one too many lives here.)
  [[nodiscard]] std::string why_wait(const std::string& migration, const ContainerSpec& spec);
  [[nodiscard]] std::uint64_t memory_reserved_bytes() const;

  // Counts the container as here; with watch() its end is noticed and cleaned up after.
  void add(std::shared_ptr<Container> container);
  void watch(const std::shared_ptr<Container>& container);
  void remove(const std::string& id) { containers_.erase(id); }

  // Migrations that this node is or was the source of, newest last; a bounded history.
  using Migrations = std::map<std::string, std::shared_ptr<MigrationReport>>;
  [[nodiscard]] const Migrations& migrations() const { return migrations_; }
  std::shared_ptr<MigrationReport> new_migration(const Container& container,
                                                 const std::string& target,
                                                 const std::string& fabric);
  std::string new_migration_id();
  [[nodiscard]] std::size_t leaving() const;
  // Whose turn it is, and how they share the wire.
  [[nodiscard]] MigrationQueue& queue() { return queue_; }
  [[nodiscard]] const MigrationQueue& queue() const { return queue_; }
  [[nodiscard]] Wire& wire() { return wire_; }

  // Pagers of containers that are arriving here, by migration: page connections are given to them.
  void add_pager(const std::string& migration, const std::shared_ptr<PagerClient>& pager) {
    pagers_[migration] = pager;
  }
  void remove_pager(const std::string& migration) { pagers_.erase(migration); }
  [[nodiscard]] std::shared_ptr<PagerClient> find_pager(const std::string& migration) const;
  // Whether a container runs here that still gets pages from the source of this migration.
  [[nodiscard]] bool is_filling(const std::string& migration) const;

  // Free memory that is promised to containers that are arriving here.
  [[nodiscard]] MemoryAccount& arriving_memory() { return arriving_memory_; }

  // Directory of lifeboat-pager and liblifeboat-criu.so.
  [[nodiscard]] std::string libexec() const;

  // What became of a migration to this node, for a source that cannot reach the registry: running from the
  // offer on, then how it ended. In run_dir, which a restarted daemon finds again and a restarted machine
  // does not; commits in state_dir, too, soon after. kSystem: run_dir has no room.
  Status record_outcome(const std::string& migration, Outcome outcome);
  // What was recorded, if anything.
  [[nodiscard]] std::optional<Outcome> recorded_outcome(const std::string& migration) const;
  // After a restart of the daemon: of what it has no container, nothing was committed.
  void settle_outcomes();
  // kRunning: not known yet, or not any more. `renounce`: one that is going on is given up, if that is still
  // possible (registry/decision.hpp). kAborted is recorded before it is said.
  [[nodiscard]] Outcome outcome_of(const std::string& migration, bool renounce);

  // Who owns what. Set once, before anything else is done with it.
  void set_registry(std::unique_ptr<Registry> registry);
  [[nodiscard]] Owners& owners() { return *owners_; }
  [[nodiscard]] MigrationJournal& journal() { return journal_; }
  [[nodiscard]] const MigrationJournal& journal() const { return journal_; }
  [[nodiscard]] NodeMetrics& metrics() { return metrics_; }
  [[nodiscard]] const NodeMetrics& metrics() const { return metrics_; }

  // The machines that decide migrations of this node, while they do.
  struct Deciding {
    std::shared_ptr<decision::Source> source;
    std::shared_ptr<decision::Target> target;
  };
  class DecisionHold {
   public:
    DecisionHold(Node* node, std::string migration) : node_(node), migration_(std::move(migration)) {}
    DecisionHold(DecisionHold&& other) noexcept
        : node_(std::exchange(other.node_, nullptr)), migration_(std::move(other.migration_)) {}
    DecisionHold& operator=(DecisionHold&&) = delete;
    ~DecisionHold() {
      if (node_ != nullptr) node_->deciding_.erase(migration_);
    }

   private:
    Node* node_;
    std::string migration_;
  };
  [[nodiscard]] DecisionHold hold_decision(const std::string& migration, Deciding machines);
  [[nodiscard]] const Deciding* deciding(const std::string& migration) const;
  // Whether a copy is held here that may be the only one.
  [[nodiscard]] bool undecided() const;

  // A container that is being started: claimed, and not yet among containers().
  void set_starting(const std::string& id, bool starting);
  // Compares what lives here with the registry. What belongs to another node is ended, never let go on;
  // what has no record is claimed; a record of this node's without a container is ended.
  awaitable<bool> reconcile();
  // Now and then, until the program ends: the same for what runs here (somebody who does not hear of this node
  // may have given a container up while the registry heard of both), what is not on its network, and images
  // that could not be removed.
  awaitable<void> look_after_containers();

  // Takes over the containers of an earlier daemon and removes what it left half-done.
  awaitable<void> adopt_all();

 private:
  awaitable<void> watch_exit(std::weak_ptr<Container> weak, std::string id);
  void adopt_one(const std::string& directory);
  awaitable<Status> compare_with_registry();
  awaitable<void> leave_to_target(Ownership owned);
  void tell_lost(const Ownership& owned);
  static void plug_in_again(Container& container);
  awaitable<void> reconcile_here(std::shared_ptr<Container> container, const OwnerRecord* record);
  void remember_exit(ExitedContainer ended);
  void sweep();
  void sweep_images();
  [[nodiscard]] bool is_leaving(const Container& container) const;
  [[nodiscard]] Status check_fits(const ContainerSpec& spec, bool without_leaving) const;

  asio::any_io_executor executor_;
  Config config_;
  std::string name_;
  std::shared_ptr<Credentials> credentials_;
  NodeFacts facts_;
  Health health_;
  Containers containers_;
  Migrations migrations_;
  MigrationQueue queue_;
  ArrivalGate gate_;
  Wire wire_;
  std::map<std::string, std::weak_ptr<PagerClient>> pagers_;
  MemoryAccount arriving_memory_;
  std::deque<ExitedContainer> exited_;
  NodeMetrics metrics_;
  std::unique_ptr<Registry> registry_;
  std::optional<Owners> owners_;
  MigrationJournal journal_;
  std::map<std::string, Deciding> deciding_;
  std::set<std::string> starting_;
  std::set<std::string> left_to_target_;  // containers; see give_up()
  std::uint64_t last_migration_number_ = 0;
  DiskThread disk_;  // for outcomes in state_dir
};

}  // namespace lifeboat
