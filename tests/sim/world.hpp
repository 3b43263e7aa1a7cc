// world.hpp - a cluster in simulation: nodes with daemons that crash and power that fails, a network that is
// cut, containers that move by the real decisions (src/registry) and plans (src/evacuation_plan), and the
// promise that is checked after every event:
//
//   a container runs at most once; no decision takes the last copy of one that could run; once a running
//   copy has died with its node no other comes to life; and when all faults are over, every container
//   that has a copy left and was not given up runs exactly once, where the registry says.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "evacuation_plan.hpp"
#include "registry/decide.hpp"
#include "sim/registry.hpp"

namespace lifeboat::sim {

struct Settings {
  std::uint64_t seed = 1;
  std::size_t nodes = 50;
  std::size_t containers = 200;
  std::uint64_t migrations = 2000;  // to be begun before the faults end
  bool embedded = true;             // the registry is in the daemon of node 0; else it outlives every node
  double faults = 1;                // of the usual rates; 0: none
  std::string trace;                // a container whose life is printed
};

struct Counts {
  std::uint64_t begun = 0, committed = 0, aborted = 0, plans = 0, steps = 0;
  std::uint64_t crashes = 0, stops = 0, power_cuts = 0, partitions = 0, registry_outages = 0;
  std::uint64_t saved_alone = 0;  // committed by the target, its source dead
  std::uint64_t doubts = 0;       // decided without a direct answer
  std::uint64_t lost = 0;         // containers, with their node
  std::uint64_t given_up = 0;     // containers, by the job's head
  std::uint64_t fenced = 0;       // copies ended because they were, or because of another owner
  std::uint64_t events = 0, registry_requests = 0, registry_swaps = 0;
  Micros doubt_longest = 0;
  double plan_ms_longest = 0;     // real time
};

// A connection between two daemons.
struct Message {
  enum class Kind { kOffer, kAccepted, kImageEnd, kStaged, kCommit, kRunning, kFailed };
  Kind kind = Kind::kOffer;
  std::optional<OwnerRecord> right;  // with kImageEnd
  bool renounced = false;            // with kFailed
};

class World {
 public:
  explicit World(const Settings& settings);
  ~World();

  // Until all migrations have been begun and all is quiet again. What is wrong; empty: nothing.
  std::string run();
  [[nodiscard]] const Counts& counts() const { return counts_; }

 private:
  // What a daemon finds of a container when it starts, and what its processes do.
  struct Copy {
    enum class State { kRunning, kFrozen, kInDoubt, kHeld };
    State state = State::kRunning;
    bool moving = false;    // this daemon moves it away
    bool restored = false;  // kHeld: CRIU has done its work
    bool part = false;      // kHeld: the rest of its memory is at the source (post-copy)
    std::string migration, peer;
    std::uint64_t epoch = 0;
  };
  struct Link;
  struct Daemon {
    std::shared_ptr<RegistryRoute> route;
    std::unique_ptr<SimulatedRegistry> registry;
    std::unique_ptr<Owners> owners;
    std::map<std::string, std::shared_ptr<decision::Target>> deciding;  // by migration
    std::map<std::string, std::shared_ptr<decision::Source>> waiting;
    std::set<std::string> starting, left_to_target;  // containers
    std::map<std::uint64_t, std::shared_ptr<Link>> links;  // by number: in an order of the seed's
    bool ended = false;
  };
  struct Node {
    std::string name;
    std::size_t group = 0;  // nodes of different groups do not reach each other
    bool power = true;
    bool degraded = false;
    std::shared_ptr<Daemon> daemon;                   // null: not running
    std::map<std::string, Copy> copies;               // by container; gone with the power
    std::map<std::string, decision::Word> outcomes;   // by migration; only commits outlive its power
  };
  struct Link {
    std::uint64_t number;
    std::size_t ends[2];
    bool open[2] = {true, true};
    std::deque<Message> arrived[2];
    std::shared_ptr<Sleeper> waiting[2] = {std::make_shared<Sleeper>(), std::make_shared<Sleeper>()};
    Micros last[2] = {0, 0};  // when the last one that was sent arrives: they keep their order
  };
  using DaemonPtr = std::shared_ptr<Daemon>;
  using LinkPtr = std::shared_ptr<Link>;

  // ---- world.cpp: nodes and network
  [[nodiscard]] bool connected(std::size_t a, std::size_t b) const;
  [[nodiscard]] bool registry_answers(std::size_t node) const;
  [[nodiscard]] std::size_t number_of(const std::string& node) const;
  void start_daemon(std::size_t node);
  void end_daemon(std::size_t node);
  awaitable<void> stop_daemon(std::size_t node, DaemonPtr daemon);
  void cut_power(std::size_t node);
  void boot(std::size_t node);
  LinkPtr open_link(std::size_t from, std::size_t to);
  void send(const LinkPtr& link, int from, Message message, int attempt = 0);
  void close(const LinkPtr& link, int end);
  awaitable<std::optional<Message>> receive(LinkPtr link, int end, Micros limit);
  awaitable<decision::Word> ask(std::size_t from, std::string to, std::string migration, bool renounce);
  awaitable<void> leave_to_target(std::size_t node, DaemonPtr daemon, Ownership owned);
  awaitable<void> keep_lease(std::size_t node, DaemonPtr daemon);
  awaitable<void> watch(std::size_t node, DaemonPtr daemon, std::string peer, LinkPtr link, int end);
  [[nodiscard]] bool runs(std::size_t node, const std::string& container) const;
  [[nodiscard]] std::vector<std::string> running(std::size_t node) const;
  awaitable<void> reconcile_here(std::size_t node, DaemonPtr daemon, std::string container,
                                 std::optional<OwnerRecord> record);
  awaitable<void> keep_to_registry(std::size_t node, DaemonPtr daemon);
  awaitable<bool> reconcile(std::size_t node, DaemonPtr daemon);
  awaitable<void> faults();
  awaitable<void> load();
  void evacuate(std::size_t node);
  awaitable<void> give_up_silent(std::size_t node);
  void heal();

  // ---- migration.cpp: containers
  void set(std::size_t node, const std::string& container, Copy copy);
  void drop(std::size_t node, const std::string& container, bool died);
  [[nodiscard]] bool died_with_owner(const std::string& container);
  awaitable<void> start_container(std::size_t node, DaemonPtr daemon, std::string container);
  void begin_migration(const std::string& container, std::size_t to);
  awaitable<void> migrate(std::size_t from, DaemonPtr daemon, std::string container, std::size_t to,
                          std::string id);
  awaitable<bool> give(std::size_t from, DaemonPtr daemon, std::string container, std::size_t to, std::string id,
                       LinkPtr link, OwnerRecord right);
  awaitable<void> arrive(std::size_t at, DaemonPtr daemon, std::string container, std::string id, LinkPtr link);
  awaitable<void> resolve(std::size_t node, DaemonPtr daemon, std::string container);
  awaitable<void> resolve_arrival(std::size_t node, DaemonPtr daemon, std::string container);
  awaitable<void> withdraw_later(DaemonPtr daemon, std::string container, std::string id);
  void check(const std::string& container);
  void tell(const std::string& container, const std::string& what) const;
  std::string check_quiet();

  Settings settings_;
  Counts counts_;
  Events events_;
  RegistryServer server_;
  bool registry_up_ = true;
  bool calm_ = false;  // no faults any more
  std::vector<Node> nodes_;
  std::map<std::string, std::size_t> numbers_;  // of nodes by name
  std::vector<DaemonPtr> daemons_;              // all there ever were: coroutines may be in them
  std::map<std::string, std::set<std::size_t>> where_;  // nodes with a copy, by container
  std::set<std::string> died_;   // the only copy that could run went with its node
  std::map<std::string, std::string> died_held_;  // a held one did, of this migration
  std::map<std::string, std::pair<std::string, std::uint64_t>> died_in_doubt_;  // one in doubt did: node, epoch
  std::set<std::string> given_up_;  // by the job's head, or nearly: they may end without a node's death
  std::uint64_t last_id_ = 0, last_link_ = 0;
  std::string wrong_;
};

}  // namespace lifeboat::sim
