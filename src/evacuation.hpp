// evacuation.hpp - a node that is not well gets its containers away: it looks at the cluster, plans,
// starts the migrations, and goes on until it is empty or well again.
//
//   who asks                          begins                             ends
//   predictor, operator (degrade)     at once, if evacuation.automatic   empty, or up again
//   operator (evacuate)               at once, or as late as is safe     empty, or restored
//
// Nothing of it is kept but the node's state (health.hpp): a daemon that starts again looks at what is
// still here and goes on.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/json.hpp"
#include "evacuation_plan.hpp"
#include "node.hpp"

namespace lifeboat {

class Agent;

class Evacuation {
 public:
  Evacuation(Agent& agent, Node& node);
  // Looks after this node until the program ends.
  void start();
  // The node's state has changed.
  void wake();

  // What would be done now, and what it would take, if the node is to be empty at `by` (0: at once).
  // Nothing is moved.
  awaitable<Result<evacuation::Plan>> plan(predictor::Time by);

  // {"phase","text","began_at","starts_at","moved","left","stuck"}; with `whole` also "migrations", the
  // reports of all that it has started.
  [[nodiscard]] json::object describe(bool whole) const;
  // How many containers cannot leave.
  [[nodiscard]] std::size_t stuck() const { return stuck_.size(); }

 private:
  enum class Phase { kIdle, kHeldBack, kWaiting, kMoving, kStuck, kEmpty };
  // A container that could not be moved, until it is tried again.
  struct Stuck {
    unsigned tries = 0;
    SteadyClock::time_point again_at;
    std::string reason;
  };

  awaitable<void> run();
  awaitable<Milliseconds> look();
  awaitable<void> bring_back();
  [[nodiscard]] bool wanted() const;
  [[nodiscard]] std::string held_back_by(const json::array& view) const;
  [[nodiscard]] std::optional<Milliseconds> until_start(const evacuation::Plan& plan);
  void settle();
  [[nodiscard]] Result<evacuation::Plan> plan_of(const json::array& view, predictor::Time by) const;
  void carry_out(const evacuation::Plan& plan);
  void begin(const evacuation::Step& step);
  void set_stuck(const std::string& container, const std::string& reason);
  void cancel_queued();
  [[nodiscard]] bool is_due(const std::string& container) const;
  [[nodiscard]] bool anything_due() const;
  void tell_how_far();
  void enter(Phase phase, std::string text);
  static const char* to_string(Phase phase);

  Agent& agent_;
  Node& node_;
  std::weak_ptr<asio::steady_timer> pause_;  // of run(): ends with the event loop
  bool woken_ = false;
  bool was_up_ = true;
  Phase phase_ = Phase::kIdle;
  std::string text_;  // why it is in this phase
  SteadyClock::time_point plan_again_at_;
  std::string began_at_;
  std::string starts_at_;
  // Those that go on, by container; and all that were started, in that order.
  std::map<std::string, std::shared_ptr<MigrationReport>> moving_;
  std::vector<std::shared_ptr<MigrationReport>> started_;
  std::map<std::string, Stuck> stuck_;
};

}  // namespace lifeboat
