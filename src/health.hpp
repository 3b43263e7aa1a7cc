// health.hpp - the states of nodes as this daemon knows them: its own, and on the nodes that listen for
// the heartbeats (heartbeat.hpp) those of the nodes that went silent. Journaled: a daemon that starts
// again knows what it knew.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/asio.hpp"
#include "base/disk_thread.hpp"
#include "base/json.hpp"
#include "config.hpp"
#include "predictor/node_journal.hpp"
#include "predictor/node_state.hpp"

namespace lifeboat {

// Now, as states and events count it.
[[nodiscard]] predictor::Time health_now();

class Health {
 public:
  Health(const HealthConfig& config, std::string self);

  // Takes over what was known before, and keeps what changes from now on.
  Status open(const std::string& path);
  // Returns once all that has changed is on disk, or after `limit`: changes do not wait for it.
  awaitable<void> settled(Milliseconds limit);

  // Applies it, logs and keeps what changed. Whether something did.
  bool apply(const std::string& node, predictor::StateSignal signal,
             const predictor::SignalDetails& details);
  // Ends what time alone ends; to be called every second or so. That the wall clock was set is seen by the
  // steady one, and no time that has passed.
  void tick() { tick(health_now(), SteadyClock::now()); }
  void tick(predictor::Time now, SteadyClock::time_point steady);

  [[nodiscard]] const predictor::NodeState& own() const { return states_.at(self_); }
  [[nodiscard]] const std::map<std::string, predictor::NodeState>& all() const { return states_; }
  // Since when and why another node counts as silent; nullptr: it does not, or nobody listens here.
  [[nodiscard]] const predictor::Reason* silence(const std::string& node) const;
  // kRefused saying why nothing may be placed on this node.
  [[nodiscard]] Status check_arrival() const;
  // {"t","event","of","state","change","cause","reason"} for each change since the daemon started, of any node;
  // bounded, newest last.
  [[nodiscard]] const std::deque<json::object>& changes() const { return changes_; }
  // Called after each change of this node's own state.
  void on_own_change(std::function<void()> call) { on_own_change_ = std::move(call); }

 private:
  predictor::NodeState& state_of(const std::string& node);
  void keep(const std::string& node, std::string_view change, const std::string& why,
            predictor::Time now);

  predictor::StateTimes times_;
  std::string self_;
  std::map<std::string, predictor::NodeState> states_;
  std::deque<json::object> changes_;
  std::function<void()> on_own_change_;

  std::optional<predictor::NodeJournal> journal_;  // of the thread alone, once there is one
  std::unique_ptr<DiskThread> disk_;               // last: it ends before what it uses
  predictor::Time ticked_{};  // at the last tick, by both clocks; 0: there was none
  SteadyClock::time_point ticked_steady_{};
};

// {"state","cause","reason","since","lead_s","risk","evidence","reasons"}; `since` as text, empty when
// the node is up.
json::object to_json(const predictor::NodeState& state);

// "node n2 is degraded since 2026-01-31T12:00:00.123Z (predictor): 12 corrected errors on DIMM_A1"; of
// what to_json() gave. Empty: it is up.
std::string why_closed(const std::string& node, const json::object& state);

}  // namespace lifeboat
