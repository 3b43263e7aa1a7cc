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
constexpr const char* kNotHeardOf = "not heard of yet, for ";  // the reason, also for the next daemon

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
  for (const NodeConfig& other : node_.config().nodes) {
    if (other.name == node_.name()) continue;
    run_detached(node_.executor(), "listening for a node's heartbeat", listen(other.name));
  }
}

awaitable<void> Heartbeat::listen(std::string node) {
  const Milliseconds lost = node_.config().health.heartbeat_lost;
  Line line;
  auto heard_at = stall_.now();  // a daemon that starts waits as long as any
  const predictor::Reason* before = node_.health().silence(node);  // as an earlier daemon left it
  bool awaited = before == nullptr || before->text.starts_with(kNotHeardOf);
  for (;;) {
    const auto asked_at = SteadyClock::now();
    auto answered = co_await ask(line, node, awaited);
    if (answered) awaited = false;
    if (answered || answered.error().code == Errc::kConflict) {  // connected, but too busy here or there
      heard_at = stall_.now();
    } else if (stall_.now() - heard_at >= lost && node_.health().silence(node) == nullptr) {
      SignalDetails details;
      details.text = (awaited ? kNotHeardOf : "silent for ") + std::to_string(lost.count() / 1000) +
                     " s: " + answered.error().message;
      node_.health().apply(node, StateSignal::kHeartbeatLost, details);
    }
    const auto now = SteadyClock::now();
    const auto next = asked_at + kBeat;
    if (next > now) co_await sleep_for(std::chrono::ceil<Milliseconds>(next - now));
  }
}

// Over each fabric in turn, that of the link which has broken last.
awaitable<Status> Heartbeat::connect(Line& line, std::string node) {
  const Config& config = node_.config();
  const auto& addresses = config.find_node(node)->addresses;
  const Milliseconds limit = config.health.heartbeat_lost / 2 / static_cast<int>(addresses.size());
  std::vector<std::string> fabrics;
  for (const auto& [fabric, address] : addresses) {
    if (fabric != line.fabric) fabrics.push_back(fabric);
  }
  if (!line.fabric.empty()) fabrics.push_back(line.fabric);
  Error last(Errc::kUnavailable, "no fabric");
  for (const std::string& fabric : fabrics) {
    auto link = co_await Link::connect(node_.peer_address(node, addresses.at(fabric)), node_.link_self(), limit);
    if (link) {
      line.link.emplace(std::move(*link));
      line.fabric = fabric;
      co_return Status{};
    }
    last = link.error();
  }
  co_return tl::unexpected<Error>(last);
}

// `awaited`: should it answer, for the first time.
awaitable<Status> Heartbeat::ask(Line& line, std::string node, bool awaited) {
  if (!line.link) CO_CHECK_OK(co_await connect(line, node));
  const Milliseconds limit = node_.config().health.heartbeat_lost / 2;
  const predictor::Reason* lost = node_.health().silence(node);
  const bool back = lost != nullptr && !awaited;
  json::object params;
  SignalDetails details;
  if (back) {
    details.text = "back after it was down since " + timestamp(lost->since);
    params = {{"node", node}, {"reason", details.text}};
  }
  json::object request{{"method", back ? "node.back" : "node.state"}, {"params", std::move(params)}};
  auto answer = co_await line.link->send(Kind::kRequest, std::move(request), limit);
  if (answer) {
    auto body = co_await line.link->expect(Kind::kResponse, limit);
    if (!body) answer = tl::unexpected<Error>(body.error());
  }
  if (!answer) {
    line.link.reset();
  } else if (lost != nullptr) {
    node_.health().apply(node, back ? StateSignal::kHeartbeatBack : StateSignal::kHeartbeatFirst, details);
  }
  co_return answer;
}

}  // namespace lifeboat
