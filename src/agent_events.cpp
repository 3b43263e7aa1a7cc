// What happened on nodes, from what their daemons keep of migrations and states.
#include <algorithm>

#include "agent.hpp"

namespace lifeboat {

namespace {

constexpr std::uint64_t kEventsMax = 1000;  // of one answer, the newest: with kReasonMax far below a frame's limit
constexpr std::size_t kReasonMax = 300;

// The rest is in `lifeboat migrations ID`.
std::string first_line(const std::string& reason) {
  std::size_t end = std::min(reason.find('\n'), reason.size());
  if (end > kReasonMax) {
    end = kReasonMax;
    while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xc0) == 0x80) --end;  // within a character
  }
  return reason.substr(0, end);
}

void sort_and_bound(json::array& events, std::size_t most) {
  std::stable_sort(events.begin(), events.end(), [](const json::value& a, const json::value& b) {
    return number_or(a.get_object(), "t") < number_or(b.get_object(), "t");
  });
  if (events.size() > most) {
    events.erase(events.begin(), events.end() - static_cast<std::ptrdiff_t>(most));
  }
}

json::array events_here(const Node& node, const MigrationJournal& journal, std::int64_t since) {
  json::array all = journal.events(since);
  for (const json::object& change : node.health().changes()) {
    if (number_or(change, "t") >= static_cast<double>(since)) all.push_back(change);
  }
  for (json::value& item : all) {
    json::object& event = item.get_object();
    event["node"] = node.name();
    event["reason"] = first_line(string_or(event, "reason"));
  }
  return all;
}

}  // namespace

// {since?: microseconds since 1970, all?: 1 for those of all nodes, last?: how many at most} -> {events, silent:
// names}, oldest first.
awaitable<Result<json::object>> Agent::events(json::object params, std::optional<Milliseconds> limit) {
  const std::uint64_t since = get_u64(params, "since").value_or(0);
  const std::uint64_t last = std::min(get_u64(params, "last").value_or(kEventsMax), kEventsMax);
  json::array all = events_here(node_, node_.journal(), static_cast<std::int64_t>(since));
  json::array silent;
  if (number_or(params, "all") != 0) {
    std::vector<std::string> others;
    for (const NodeConfig& node : node_.config().nodes) {
      if (node.name != node_.name()) others.push_back(node.name);
    }
    json::object asked{{"since", since}, {"last", last}};
    const auto answers = co_await call_all(others, "events", std::move(asked), limit);
    for (std::size_t i = 0; i < others.size(); ++i) {
      auto theirs = answers[i] ? get_array(*answers[i], "events") : fail(Errc::kUnavailable, "");
      if (!theirs) {
        silent.emplace_back(others[i]);
        continue;
      }
      for (const json::value& event : **theirs) {
        if (event.is_object()) all.push_back(event);
      }
    }
  }
  sort_and_bound(all, last);
  co_return json::object{{"events", std::move(all)}, {"silent", std::move(silent)}};
}

}  // namespace lifeboat
