// Predictor::save() and load(): everything learned and everything that holds, as one JSON text.
//
// load() builds a whole new predictor first and takes it over only if every member was as save() writes
// it, so damaged text changes nothing.
#include <charconv>
#include <cmath>
#include <exception>

#include "predictor/predictor.hpp"

namespace lifeboat::predictor {
namespace {

constexpr int kVersion = 1;

json::value to_value(double number) { return json::value(number); }
json::value to_value(Time time) { return json::value(time.time_since_epoch().count()); }
// Beyond these no sum or product of what was learned is a number any more, and no time a time.
constexpr double kNumberMax = 1e15;
constexpr std::int64_t kMicrosecondsMax = 4'000'000'000'000'000;  // the year 2096

double to_double(const json::value& value) {
  const auto number = value.to_number<double>();
  if (!(std::abs(number) <= kNumberMax)) throw std::out_of_range("not a number that can have been learned");
  return number;
}
Time to_time(const json::value& value) {
  const std::int64_t time = value.as_int64();
  if (time < -kMicrosecondsMax || time > kMicrosecondsMax) throw std::out_of_range("not a time");
  return Time(Duration(time));
}

std::string hex(std::uint64_t value) {
  char text[17] = {};
  const auto end = std::to_chars(text, text + 16, value, 16).ptr;
  return {text, end};
}
std::uint64_t from_hex(const json::value& value) {
  const json::string& text = value.as_string();
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw std::out_of_range("not a hexadecimal number");
  }
  return number;
}

template <class Range>
json::array numbers(const Range& range) {
  json::array out;
  for (const double number : range) out.push_back(to_value(number));
  return out;
}
template <std::size_t kSize>
void read_numbers(const json::value& value, std::array<double, kSize>& out) {
  const json::array& list = value.as_array();
  if (list.size() != kSize) throw std::out_of_range("a list of the wrong length");
  for (std::size_t i = 0; i < kSize; ++i) out[i] = to_double(list[i]);
}

json::array to_value(const DecayingCount& count) { return numbers(std::array{count.value_, count.day_}); }
DecayingCount to_count(const json::value& value) {
  std::array<double, 2> pair{};
  read_numbers(value, pair);
  DecayingCount count;
  count.value_ = pair[0];
  count.day_ = pair[1];
  return count;
}

json::object to_value(const GroupHistory& group) {
  return {{"nodes", group.nodes},       {"node_days", group.node_days}, {"failures", group.failures},
          {"last", group.last},         {"day", to_value(group.day)},   {"month", to_value(group.month)}};
}
GroupHistory to_group(const json::object& object) {
  GroupHistory group;
  group.nodes = to_double(object.at("nodes"));
  group.node_days = to_double(object.at("node_days"));
  group.failures = to_double(object.at("failures"));
  group.last = to_double(object.at("last"));
  group.day = to_count(object.at("day"));
  group.month = to_count(object.at("month"));
  return group;
}

json::object to_value(const NodeHistory& history) {
  return {{"seen", history.seen},
          {"failed", history.failed},
          {"repaired", history.repaired},
          {"failures", history.failures},
          {"days", to_value(history.days)},
          {"weeks", to_value(history.weeks)},
          {"months", to_value(history.months)},
          {"hardware", to_value(history.hardware)},
          {"software", to_value(history.software)},
          {"looked", history.looked},
          {"features", numbers(history.features)}};
}
NodeHistory to_history(const json::object& object) {
  NodeHistory history;
  history.seen = to_double(object.at("seen"));
  history.failed = to_double(object.at("failed"));
  history.repaired = to_double(object.at("repaired"));
  history.failures = to_double(object.at("failures"));
  history.days = to_count(object.at("days"));
  history.weeks = to_count(object.at("weeks"));
  history.months = to_count(object.at("months"));
  history.hardware = to_count(object.at("hardware"));
  history.software = to_count(object.at("software"));
  history.looked = to_double(object.at("looked"));
  read_numbers(object.at("features"), history.features);
  return history;
}

json::array to_value(const TemplateTable& table) {
  json::array out;
  for (const Template& known : table.all()) {
    if (known.hash == 0 || known.outcomes.trials == 0) continue;  // nothing was learned of it
    const Outcomes& outcomes = known.outcomes;
    out.push_back(json::array{json::value(hex(known.hash)), to_value(known.used), outcomes.hits,
                              outcomes.trials, outcomes.log_lead});
  }
  return out;
}
void read_table(const json::value& value, TemplateTable& table) {
  for (const json::value& item : value.as_array()) {
    const json::array& row = item.as_array();
    bool fresh = false;
    Template& known = table.find(from_hex(row.at(0)), to_time(row.at(1)), fresh);
    known.outcomes = {to_double(row.at(2)), to_double(row.at(3)), to_double(row.at(4))};
  }
}

json::object to_value(const Signal& signal) {
  return {{"key", hex(signal.key)},
          {"time", to_value(signal.time)},
          {"probability", signal.probability},
          {"repeats", signal.repeats},
          {"lead", signal.lead},
          {"why", signal.evidence.why},
          {"event", to_replay_line(signal.evidence.event)}};
}
Signal to_signal(const json::object& object) {
  Signal signal;
  signal.key = from_hex(object.at("key"));
  signal.time = to_time(object.at("time"));
  signal.probability = to_double(object.at("probability"));
  signal.repeats = to_double(object.at("repeats"));
  signal.lead = to_double(object.at("lead"));
  signal.evidence.why = object.at("why").as_string().c_str();
  auto event = parse_replay_line(object.at("event").as_string());
  if (!event) throw std::out_of_range(event.error().message);
  signal.evidence.event = *std::move(event);
  return signal;
}

}  // namespace

json::object to_json(const NodeRecord& node) {
  json::array signals;
  for (const Signal& signal : node.signals) signals.push_back(to_value(signal));
  json::array pending;
  for (const Pending& one : node.pending) {
    if (one.key != 0) {
      pending.push_back(json::array{json::value(hex(one.key)), json::value(hex(one.family)), to_value(one.time)});
    }
  }
  return {{"name", node.name},
          {"group", node.group},
          {"down", node.down},
          {"degraded", node.degraded},
          {"since", to_value(node.since)},
          {"alarm", node.alarm.on()},
          {"alarm_since", to_value(node.alarm.since())},
          {"alarm_until", to_value(node.alarm.until())},
          {"probation_until", to_value(node.probation_until)},
          {"repaired", to_value(node.repaired)},
          {"history", to_value(node.history)},
          {"history_risk", node.history_risk},
          {"risk", node.risk},
          {"due", to_value(node.due)},
          {"signals", std::move(signals)},
          {"pending", std::move(pending)},
          {"parts", node.memory.save()}};
}

NodeRecord node_record_from(const json::object& object) {
  NodeRecord node;
  node.name = object.at("name").as_string().c_str();
  node.group = object.at("group").to_number<std::uint32_t>();
  node.down = object.at("down").as_bool();
  node.degraded = object.at("degraded").as_bool();
  node.since = to_time(object.at("since"));
  node.alarm.restore(object.at("alarm").as_bool(), to_time(object.at("alarm_since")),
                     to_time(object.at("alarm_until")));
  node.probation_until = to_time(object.at("probation_until"));
  node.repaired = to_time(object.at("repaired"));
  node.history = to_history(object.at("history").as_object());
  node.history_risk = to_double(object.at("history_risk"));
  node.risk = to_double(object.at("risk"));
  node.due = to_time(object.at("due"));
  for (const json::value& signal : object.at("signals").as_array()) {
    node.signals.push_back(to_signal(signal.as_object()));
  }
  for (const json::value& item : object.at("pending").as_array()) {
    const json::array& row = item.as_array();
    node.pending.at(node.pending_next++) = {from_hex(row.at(0)), from_hex(row.at(1)),
                                            to_time(row.at(2))};
  }
  node.pending_next %= node.pending.size();
  node.memory.load(object.at("parts").as_array());
  return node;
}

std::string Predictor::save() const {
  json::array groups;
  for (const auto& [name, id] : group_ids_) {
    json::object group = to_value(groups_[id]);
    group["name"] = name;
    group["id"] = id;
    groups.push_back(std::move(group));
  }
  json::array nodes;
  for (const NodeRecord& node : nodes_) nodes.push_back(to_json(node));
  json::array covariance;
  for (const HistoryVector& row : history_.covariance()) covariance.push_back(numbers(row));
  return json::serialize(json::object{{"version", kVersion},
                                      {"now", to_value(now_)},
                                      {"weights", numbers(history_.weights())},
                                      {"covariance", std::move(covariance)},
                                      {"templates", to_value(templates_)},
                                      {"families", to_value(families_)},
                                      {"groups", std::move(groups)},
                                      {"nodes", std::move(nodes)}});
}

Status Predictor::load(std::string_view saved) {
  auto parsed = parse_object(saved);
  if (!parsed) return fail(Errc::kInvalid, parsed.error().message);
  const json::object& object = *parsed;
  try {
    if (object.at("version").as_int64() != kVersion) {
      return fail(Errc::kInvalid, "state of the predictor: of another version");
    }
    Predictor fresh(config_);
    fresh.now_ = to_time(object.at("now"));
    HistoryVector weights{};
    read_numbers(object.at("weights"), weights);
    fresh.history_.set_weights(weights);
    HistoryModel::Covariance covariance{};
    const json::array& rows = object.at("covariance").as_array();
    for (std::size_t i = 0; i < covariance.size(); ++i) read_numbers(rows.at(i), covariance[i]);
    fresh.history_.set_covariance(covariance);
    read_table(object.at("templates"), fresh.templates_);
    read_table(object.at("families"), fresh.families_);
    const json::array& groups = object.at("groups").as_array();
    fresh.groups_.resize(groups.size());
    for (const json::value& item : groups) {
      const json::object& group = item.as_object();
      const auto id = group.at("id").to_number<std::uint32_t>();
      fresh.groups_.at(id) = to_group(group);
      fresh.group_ids_[group.at("name").as_string().c_str()] = id;
    }
    for (const json::value& item : object.at("nodes").as_array()) {
      NodeRecord node = node_record_from(item.as_object());
      (void)fresh.groups_.at(node.group);
      const auto at = static_cast<std::uint32_t>(fresh.nodes_.size());
      if (!fresh.node_ids_.emplace(node.name, at).second) throw std::out_of_range("a node twice");
      fresh.due_.push({node.due, at});
      fresh.nodes_.push_back(std::move(node));
    }
    fresh.on_risk_ = on_risk_;
    *this = std::move(fresh);
  } catch (const std::exception& error) {
    return fail(Errc::kInvalid, std::string("state of the predictor: ") + error.what());
  }
  return {};
}

}  // namespace lifeboat::predictor
