// predictor.hpp - from events to verdicts: which nodes are likely to fail, how soon, and what says so.
//
// Filters thin the events out (filter.hpp); each model turns what is left into a probability that the node
// fails within the horizon (template.hpp, memory_rules.hpp, history.hpp, probation.hpp); the node's risk is
// that at least one of them is right, 1 - (1 - p1)(1 - p2)...; two thresholds and a time to hold make a
// state of it (alarm.hpp). Failures and repairs that arrive as events are what the models learn from.
//
// Pure: no clock, no files. The same events and times give the same verdicts. An instance may see one node
// or thousands; filters that compare nodes work on those it sees. Memory is bounded by the configuration.
//
//   Predictor predictor(config);
//   predictor.add(event); predictor.advance(now);
//   for (const Verdict& verdict : predictor.take_changes()) ...
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "predictor/config.hpp"
#include "predictor/node_record.hpp"

namespace lifeboat::predictor {

struct Verdict {
  std::string node;
  bool degraded = false;
  bool down = false;
  double risk = 0;      // P(down within the horizon)
  Duration horizon{};
  Duration lead{};      // expected (median) until it fails, if it does within the horizon
  Time since{};         // of the present state
  std::string reason;   // one line for people
  std::vector<Evidence> evidence;  // bounded, newest last
};

class Predictor {
 public:
  explicit Predictor(PredictorConfig config);

  // Events in the order of time; an older one counts as happening now. One that is far ahead of the clock
  // counts as happening now, too, unless another confirms it or advance() does: a clock that jumps must not
  // age everything. Ignored: an event without a node, with an absurd count, of a node too many.
  void add(const Event& event);
  // It is `now`; never back.
  void advance(Time now);

  // Nodes whose degraded or down turned since the last call, in the order they did.
  std::vector<Verdict> take_changes();
  // Of a node never heard of: neither degraded nor down.
  [[nodiscard]] Verdict verdict(const std::string& node) const;

  // All that was learned and all that holds, as one text.
  [[nodiscard]] std::string save() const;
  // kInvalid on damaged text: the state stays as it was.
  Status load(std::string_view saved);

  // Called with every new estimate of a node's risk (for evaluation).
  using OnRisk = std::function<void(const std::string& node, Time now, double risk)>;
  void on_risk(OnRisk callback) { on_risk_ = std::move(callback); }

  [[nodiscard]] std::size_t nodes() const { return nodes_.size(); }
  [[nodiscard]] const HistoryModel& history() const { return history_; }

 private:
  struct Due {
    Time time;
    std::uint32_t node;
    bool operator>(const Due& other) const {
      return time != other.time ? time > other.time : node > other.node;
    }
  };

  void accept_time(Time time);
  // Its place in nodes_, or nothing.
  std::optional<std::uint32_t> node_of(const Event& event);
  std::uint32_t group_of(const Event& event);
  void run_due(std::size_t most);
  void look(std::uint32_t at);
  void schedule(std::uint32_t at, Time time);

  void went_down(std::uint32_t at, const Event& event);
  void was_repaired(std::uint32_t at);
  void learn_of_failure(NodeRecord& node);
  void observe(std::uint32_t at, const Event& event);
  void expire(NodeRecord& node);
  void count(const Pending& pending, bool hit, double lead);
  void remember(NodeRecord& node, std::uint64_t key, std::uint64_t family);
  double probability(const Event& event, Template& known, std::uint64_t family);
  void signal(NodeRecord& node, std::uint64_t key, const Event& event, double probability,
              double lead, std::string why);
  void facility(const Template& known);

  [[nodiscard]] double risk_of(const NodeRecord& node) const;
  [[nodiscard]] Duration lead_of(const NodeRecord& node) const;
  [[nodiscard]] Verdict verdict_of(const NodeRecord& node) const;
  [[nodiscard]] std::string reason_of(const NodeRecord& node) const;
  void judge(std::uint32_t at);
  void changed(std::uint32_t at);

  PredictorConfig config_;
  Time now_{};
  Time ahead_{};  // of an event that was not believed
  OnRisk on_risk_;

  TemplateTable templates_;
  TemplateTable families_;
  TemporalFilter temporal_;
  HistoryModel history_;
  std::vector<GroupHistory> groups_;
  std::unordered_map<std::string, std::uint32_t> group_ids_;
  std::deque<NodeRecord> nodes_;
  std::unordered_map<std::string, std::uint32_t> node_ids_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::vector<std::uint32_t> changes_;
};

}  // namespace lifeboat::predictor
