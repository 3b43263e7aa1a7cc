#include "predictor/predictor.hpp"

#include <algorithm>
#include <cmath>

#include "predictor/priors.hpp"
#include "predictor/probation.hpp"

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kCountMax = 10'000'000;  // of one event; more is a broken counter
constexpr Duration kAheadMax = 24h;
constexpr std::size_t kGroupsMax = 4096;
constexpr std::size_t kDuePerEvent = 2;
constexpr std::size_t kNameMax = 256;
constexpr std::size_t kDetailsMax = 32;
constexpr double kSignalMin = 0.005;  // less is not worth keeping

double days(Time time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count() / 86400;
}
double days(Duration duration) { return std::chrono::duration<double>(duration).count() / 86400; }
double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
Time time_of_day(double day) {
  return Time(Duration(static_cast<std::int64_t>(day * 86400 * 1e6)));
}

std::uint64_t family_of(const Event& event) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : detail(event, "category")) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  hash = hash * 31 + static_cast<std::uint64_t>(event.kind) * 8 +
         static_cast<std::uint64_t>(event.severity);
  return hash == 0 ? 1 : hash;
}

// ASCII only: what is kept is shown to people and written as JSON.
std::string printable(std::string_view text, std::size_t max) {
  std::string out(text.substr(0, max));
  for (char& c : out) {
    if (c < ' ' || c > '~') c = '?';
  }
  return out;
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kNameMax && text == printable(text, kNameMax);
}

Event for_evidence(const Event& event) {
  Event copy = event;
  copy.location = printable(event.location, kNameMax);
  copy.source = printable(event.source, kNameMax);
  copy.text = printable(event.text, kTextMax);
  copy.details.clear();
  for (const auto& [key, value] : event.details) {
    if (copy.details.size() == kDetailsMax) break;
    copy.details.emplace_back(printable(key, kNameMax), printable(value, kNameMax));
  }
  return copy;
}

}  // namespace

Predictor::Predictor(PredictorConfig config)
    : config_(config),
      templates_(config.templates.max),
      families_(256),
      temporal_(config.filter),
      history_(config.history.learning) {}

// ---- Time ----------------------------------------------------------------------------------------

void Predictor::accept_time(Time time) {
  if (time <= now_) return;
  if (now_ == Time{} || time - now_ <= kAheadMax ||
      (ahead_ != Time{} && time >= ahead_ && time - ahead_ <= kAheadMax)) {
    now_ = time;
    ahead_ = {};
  } else {
    ahead_ = time;
  }
}

void Predictor::schedule(std::uint32_t at, Time time) {
  nodes_[at].due = time;
  due_.push({time, at});
}

void Predictor::run_due(std::size_t most) {
  const Time until = now_;
  for (; most > 0 && !due_.empty() && due_.top().time <= until; --most) {
    const Due due = due_.top();
    due_.pop();
    if (nodes_[due.node].due != due.time) continue;  // a later one replaced it
    now_ = due.time;
    look(due.node);
  }
  now_ = until;
}

void Predictor::advance(Time now) {
  now_ = std::max(now_, now);
  ahead_ = {};
  run_due(static_cast<std::size_t>(-1));
}

// A look at a node at its own time: time alone changes its risk.
void Predictor::look(std::uint32_t at) {
  NodeRecord& node = nodes_[at];
  if (node.down) return;
  expire(node);
  Time next = now_ + config_.horizon;
  if (config_.history.on) {
    GroupHistory& group = groups_[node.group];
    history_.look(node.history, group, days(now_));
    node.history_risk = history_.risk(node.history, group, days(now_), days(config_.horizon));
    next = time_of_day(HistoryModel::next_look(node.history, days(now_)));
  }
  judge(at);
  if (node.alarm.on()) {
    // Often enough to end it in time; the risk may fall below the lower threshold long before.
    next = std::min(next, std::max(node.alarm.until(), now_ + Duration(1s)));
  }
  if (node.probation_until > now_) next = std::min(next, node.probation_until);
  schedule(at, std::max(next, now_ + Duration(1s)));
}

// ---- Events --------------------------------------------------------------------------------------

std::uint32_t Predictor::group_of(const Event& event) {
  const std::string name = printable(detail(event, "group"), kNameMax);
  const auto found = group_ids_.find(name);
  if (found != group_ids_.end()) return found->second;
  if (groups_.size() >= kGroupsMax) return 0;
  const auto id = static_cast<std::uint32_t>(groups_.size());
  groups_.emplace_back().last = days(now_);
  group_ids_.emplace(name, id);
  return id;
}

std::optional<std::uint32_t> Predictor::node_of(const Event& event) {
  const auto found = node_ids_.find(event.node);
  if (found != node_ids_.end()) return found->second;
  if (!is_name(event.node) || nodes_.size() >= config_.nodes_max) return std::nullopt;
  const auto at = static_cast<std::uint32_t>(nodes_.size());
  NodeRecord& node = nodes_.emplace_back();
  node.name = event.node;
  node.group = group_of(event);
  node_ids_.emplace(node.name, at);
  history_.join(node.history, groups_[node.group], days(now_));
  schedule(at, now_ + Duration(1h));
  return at;
}

void Predictor::add(const Event& event) {
  accept_time(event.time);
  run_due(kDuePerEvent);
  if (event.count > kCountMax) return;
  const std::optional<std::uint32_t> node = node_of(event);
  if (!node) return;
  const std::uint32_t at = *node;
  if (event.kind == EventKind::kDown || event.kind == EventKind::kHeartbeatLost) {
    went_down(at, event);
  } else if (event.kind == EventKind::kRepaired) {
    was_repaired(at);
  } else {
    observe(at, event);
  }
}

void Predictor::went_down(std::uint32_t at, const Event& event) {
  NodeRecord& node = nodes_[at];
  if (node.down) return;
  learn_of_failure(node);
  if (config_.history.on) {
    GroupHistory& group = groups_[node.group];
    bool fresh = false;
    Template& storm = templates_.find(template_hash(event), now_, fresh);
    const bool shared = facility_wide(config_.filter, storm.cluster, at, now_);
    history_.fail(node.history, group, days(now_), detail(event, "cause_class"), shared);
  }
  node.down = true;
  node.degraded = false;
  node.alarm.clear();
  node.signals.clear();
  node.history_risk = 0;
  node.probation_until = {};
  Evidence evidence{for_evidence(event), event.kind == EventKind::kDown ? "it went down"
                                                          : "nothing is heard from it"};
  node.signals.push_back({0, now_, 0, 1, 0, std::move(evidence)});
  node.risk = 1;
  changed(at);
}

void Predictor::was_repaired(std::uint32_t at) {
  NodeRecord& node = nodes_[at];
  if (!node.down) return;
  node.down = false;
  node.signals.clear();
  node.repaired = now_;
  if (config_.probation.on) node.probation_until = now_ + config_.probation.length;
  if (config_.history.on) {
    const GroupHistory& group = groups_[node.group];
    history_.repair(node.history, group, days(now_));
    node.history_risk = history_.risk(node.history, group, days(now_), days(config_.horizon));
  }
  changed(at);
  judge(at);
  schedule(at, time_of_day(HistoryModel::next_look(node.history, days(now_))));
}

void Predictor::observe(std::uint32_t at, const Event& event) {
  NodeRecord& node = nodes_[at];
  const std::uint64_t hash = template_hash(event);
  // Rules count every error, so they come before the filters.
  if (const auto finding = node.memory.add(config_.memory, event, now_)) {
    const std::uint64_t key = hash ^ std::hash<std::string>{}(event.location);
    signal(node, key, event, finding->probability, 0, finding->why);
    judge(at);
  }
  if (!config_.templates.on || temporal_.repeated(at, event.location, hash, now_)) return;

  bool fresh = false;
  Template& known = templates_.find(hash, now_, fresh);
  const bool mined = event.kind == EventKind::kMessage && detail(event, "template").empty();
  if (config_.filter.semantic && mined && !event.text.empty()) {
    if (known.words.none()) known.words = keywords(event.text);
    if (redundant(node.said, known.words, hash, event.severity, now_)) return;
  }
  if (facility_wide(config_.filter, known.cluster, at, now_)) {
    // Once for all: what follows in the cluster blames nobody.
    if (!known.cluster.taken_back) facility(known);
    known.cluster.taken_back = true;
    return;
  }
  if (node.down) return;  // what is said after the failure foretells nothing
  const std::uint64_t family = family_of(event);
  expire(node);
  remember(node, hash, family);
  const double probability = this->probability(event, known, family);
  if (probability < kSignalMin) return;
  const Outcomes& outcomes = known.outcomes;
  const double lead = outcomes.hits > 0 ? std::exp(outcomes.log_lead / outcomes.hits) : 0;
  std::string why = std::string(to_string(event.kind)) + " (" +
                    std::string(to_string(event.severity)) + ")";
  if (outcomes.trials > 0) {
    why += "; " + std::to_string(std::lround(outcomes.hits)) + " of " +
           std::to_string(std::lround(outcomes.trials)) + " such were followed by a failure";
  }
  signal(node, hash, event, probability, lead, std::move(why));
  judge(at);
}

// The cluster is the facility's: what its nodes were blamed for because of it is taken back.
void Predictor::facility(const Template& known) {
  for (const std::uint32_t at : known.cluster.nodes) {
    NodeRecord& node = nodes_[at];
    if (node.down) continue;
    const auto gone = std::remove_if(node.signals.begin(), node.signals.end(), [&](const Signal& s) {
      return s.key == known.hash && s.time >= known.cluster.first;
    });
    if (gone == node.signals.end()) continue;
    node.signals.erase(gone, node.signals.end());
    for (Pending& pending : node.pending) {
      if (pending.key == known.hash) pending = {};
    }
    if (risk_of(node) < config_.healthy_below) node.alarm.release(now_);
    judge(at);
  }
}

// ---- Learning ------------------------------------------------------------------------------------

void Predictor::count(const Pending& pending, bool hit, double lead) {
  for (TemplateTable* table : {&templates_, &families_}) {
    bool fresh = false;
    const std::uint64_t hash = table == &templates_ ? pending.key : pending.family;
    Outcomes& outcomes = table->find(hash, now_, fresh).outcomes;
    outcomes.trials += 1;
    if (!hit) continue;
    outcomes.hits += 1;
    outcomes.log_lead += std::log(lead);
  }
}

void Predictor::learn_of_failure(NodeRecord& node) {
  for (Pending& pending : node.pending) {
    if (pending.key == 0) continue;
    const Duration lead = now_ - pending.time;
    // A message that comes with the failure is a symptom: it was no warning.
    count(pending, lead >= config_.lead_min && lead <= config_.horizon,
          std::max(1.0, seconds(lead)));
    pending = {};
  }
}

void Predictor::expire(NodeRecord& node) {
  for (Pending& pending : node.pending) {
    if (pending.key == 0 || now_ - pending.time <= config_.horizon) continue;
    count(pending, false, 0);
    pending = {};
  }
  const auto gone = std::remove_if(node.signals.begin(), node.signals.end(), [&](const Signal& s) {
    return now_ - s.time > 4 * config_.horizon;
  });
  node.signals.erase(gone, node.signals.end());
}

void Predictor::remember(NodeRecord& node, std::uint64_t key, std::uint64_t family) {
  for (const Pending& pending : node.pending) {
    if (pending.key == key) return;  // one trial until its outcome is known
  }
  node.pending[node.pending_next] = {key, family, now_};
  node.pending_next = (node.pending_next + 1) % node.pending.size();
}

double Predictor::probability(const Event& event, Template& known, std::uint64_t family) {
  const double prior = prior_of(event.kind, event.severity);
  bool fresh = false;
  const Template& kin = families_.find(family, now_, fresh);
  const double weight = config_.templates.prior_weight;
  return known.outcomes.rate(kin.outcomes.rate(prior, 10 * weight), weight);
}

// ---- Verdicts ------------------------------------------------------------------------------------

void Predictor::signal(NodeRecord& node, std::uint64_t key, const Event& event, double probability,
                       double lead, std::string why) {
  const auto known = std::find_if(node.signals.begin(), node.signals.end(),
                                  [&](const Signal& s) { return s.key == key; });
  Signal signal{key, now_, probability, 1, lead, {for_evidence(event), std::move(why)}};
  if (known != node.signals.end()) {
    signal.repeats = known->repeats + 1;
    node.signals.erase(known);
  } else if (node.signals.size() >= config_.evidence_max) {
    // The weakest goes; of equals the oldest.
    const auto weakest = std::min_element(
        node.signals.begin(), node.signals.end(),
        [](const Signal& a, const Signal& b) { return a.probability < b.probability; });
    if (weakest->probability > probability) return;
    node.signals.erase(weakest);
  }
  node.signals.push_back(std::move(signal));
}

double Predictor::risk_of(const NodeRecord& node) const {
  if (node.down) return 1;
  double survival = 1 - node.history_risk;
  for (const Signal& signal : node.signals) {
    survival *= 1 - signal.probability * std::exp(-seconds(now_ - signal.time) / seconds(config_.horizon));
  }
  if (config_.probation.on && node.repaired != Time{} && !config_.history.on) {
    survival *= 1 - probation_risk(config_.probation, now_ - node.repaired, config_.horizon);
  }
  return 1 - survival;
}

void Predictor::judge(std::uint32_t at) {
  NodeRecord& node = nodes_[at];
  if (node.down) return;
  node.risk = risk_of(node);
  if (on_risk_) on_risk_(node.name, now_, node.risk);
  node.alarm.update({config_.degraded_at, config_.healthy_below, config_.hold}, now_, node.risk);
  const bool degraded = node.alarm.on() || node.probation_until > now_;
  if (degraded != node.degraded) {
    node.degraded = degraded;
    changed(at);
  }
  if (node.alarm.on() && node.due > node.alarm.until()) schedule(at, node.alarm.until());
}

void Predictor::changed(std::uint32_t at) {
  NodeRecord& node = nodes_[at];
  node.since = now_;
  if (node.told) return;
  node.told = true;
  changes_.push_back(at);
}

}  // namespace lifeboat::predictor
