// All that the page shows, in one answer.
#include "agent.hpp"
#include "cluster_view.hpp"
#include "report.hpp"

namespace lifeboat {

namespace {

constexpr Milliseconds kNodeLimit{2'000};  // a page that waits longer for a node shows nothing of the others
constexpr std::uint64_t kMigrations = 50;
constexpr std::uint64_t kEvents = 100;
constexpr std::chrono::hours kEventsBack{24};

// Which migrations go on: when that changes, one has begun or is over.
std::string under_way(const json::object& present) {
  std::string ids;
  for (const json::object* node : objects_of(present, "nodes")) {
    for (const json::object* report : objects_of(*node, "migrations")) ids += string_or(*report, "id") + " ";
  }
  return ids;
}

}  // namespace

// {"at","nodes"}: as `lifeboat nodes --json`, with the migrations that go on.
awaitable<json::object> Agent::present() {
  json::array nodes = co_await cluster_view(kNodeLimit);
  co_return json::object{{"at", timestamp_now()}, {"nodes", std::move(nodes)}};
}

// {"migrations","events","silent"}: the newest of all nodes, oldest first, and who does not say.
awaitable<json::object> Agent::past() {
  const std::uint64_t since = static_cast<std::uint64_t>((health_now() - kEventsBack).time_since_epoch().count());
  json::object which{{"all", 1}, {"last", kMigrations}};
  auto list = co_await migration_list(std::move(which), kNodeLimit);
  json::object when{{"all", 1}, {"since", since}, {"last", kEvents}};
  auto news = co_await events(std::move(when), kNodeLimit);
  json::object out = list ? std::move(*list) : json::object{};
  if (news) out["events"] = std::move(news->at("events"));
  if (news) out["silent"] = std::move(news->at("silent"));  // of all nodes, heads as well
  co_return out;
}

// Those two, and who says so; both at most as old as their owners allow, however many ask.
awaitable<Result<json::object>> Agent::view() {
  const std::shared_ptr<const json::object> now = co_await present_.get();
  const std::shared_ptr<const json::object> before = co_await past_.get(under_way(*now));
  json::object out = *before;
  for (const auto& item : *now) out[item.key()] = item.value();
  out["node"] = node_.name();
  out["cluster"] = node_.config().cluster;
  out["version"] = LIFEBOAT_VERSION;
  co_return out;
}

}  // namespace lifeboat
