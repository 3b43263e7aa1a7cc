#include "heartbeat.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "report.hpp"

namespace lifeboat {

using predictor::StateSignal;
using predictor::SignalDetails;
using protocol::Kind;

namespace {

constexpr Milliseconds kBeat{1000};

}  // namespace

std::vector<std::string> heartbeat_listeners(const Config& config) {
  std::vector<std::string> names;
  for (const NodeConfig& node : config.nodes) {
    if (node.role == NodeRole::kHead) names.push_back(node.name);
  }
  if (names.empty()) names.push_back(config.nodes.front().name);
  return names;
}

void Heartbeat::start() {
  const std::vector<std::string> listeners = heartbeat_listeners(node_.config());
  if (std::find(listeners.begin(), listeners.end(), node_.name()) == listeners.end()) return;
  run_detached(node_.executor(), "watching for stalls", stall_.watch());
  for (const NodeConfig& other : node_.config().nodes) {
    if (other.name == node_.name()) continue;
    run_detached(node_.executor(), "listening for a node's heartbeat", listen(other.name));
  }
}

awaitable<void> Heartbeat::listen(std::string node) {
  const Milliseconds lost = node_.config().health.heartbeat_lost;
  std::optional<Link> link;
  auto heard_at = stall_.now();  // a daemon that starts waits as long as any
  bool awaited = node_.health().silence(node) == nullptr;  // not heard of yet; nor lost by an earlier daemon
  for (;;) {
    const auto asked_at = SteadyClock::now();
    auto answered = co_await ask(link, node, awaited);
    if (answered) awaited = false;
    if (answered || answered.error().code == Errc::kConflict) {  // connected, but too busy here or there
      heard_at = stall_.now();
    } else if (stall_.now() - heard_at >= lost && node_.health().silence(node) == nullptr) {
      SignalDetails details;
      details.text = (awaited ? "not heard of yet, for " : "silent for ") + std::to_string(lost.count() / 1000) +
                     " s: " + answered.error().message;
      node_.health().apply(node, StateSignal::kHeartbeatLost, details);
    }
    const auto now = SteadyClock::now();
    const auto next = asked_at + kBeat;
    if (next > now) co_await sleep_for(std::chrono::ceil<Milliseconds>(next - now));
  }
}

// Over each fabric in turn: one that is broken does not make a node down. All within the time after
// which it counts as lost.
awaitable<Result<Link>> Heartbeat::connect(std::string node) {
  const Config& config = node_.config();
  const auto& addresses = config.find_node(node)->addresses;
  const Milliseconds limit = config.health.heartbeat_lost / static_cast<int>(addresses.size() + 1);
  Error last(Errc::kUnavailable, "no fabric");
  for (const auto& [fabric, address] : addresses) {
    auto link = co_await Link::connect(node_.peer_address(node, address), node_.link_self(), limit);
    if (link) co_return std::move(*link);
    last = link.error();
  }
  co_return tl::unexpected<Error>(last);
}

// `awaited`: should it answer, for the first time.
awaitable<Status> Heartbeat::ask(std::optional<Link>& link, std::string node, bool awaited) {
  if (!link) {
    CO_TRY(Link made, co_await connect(node));
    link.emplace(std::move(made));
  }
  const Milliseconds limit = node_.config().health.heartbeat_lost;
  const predictor::Reason* lost = node_.health().silence(node);
  const bool back = lost != nullptr && !awaited;
  json::object params;
  SignalDetails details;
  if (back) {
    details.text = "back after it was down since " + timestamp(lost->since);
    params = {{"node", node}, {"reason", details.text}};
  }
  json::object request{{"method", back ? "node.back" : "node.state"}, {"params", std::move(params)}};
  auto answer = co_await link->send(Kind::kRequest, std::move(request), limit);
  if (answer) {
    auto body = co_await link->expect(Kind::kResponse, limit);
    if (!body) answer = tl::unexpected<Error>(body.error());
  }
  if (!answer) {
    link.reset();
  } else if (lost != nullptr) {
    node_.health().apply(node, back ? StateSignal::kHeartbeatBack : StateSignal::kHeartbeatFirst, details);
  }
  co_return answer;
}

}  // namespace lifeboat
