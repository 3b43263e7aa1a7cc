// The page of metrics: what the node counted (node_metrics.hpp), and how things are just now.
#include <algorithm>

#include "agent.hpp"

namespace lifeboat {

using metrics::Page;
using metrics::Type;
using predictor::NodeCondition;

namespace {

constexpr ContainerState kStates[] = {ContainerState::kStarting, ContainerState::kRunning,
                                      ContainerState::kLeaving,  ContainerState::kArriving,
                                      ContainerState::kInDoubt,  ContainerState::kDraining};

void add_daemon(Page& page, const Node& node) {
  const NodeFacts& facts = node.facts();
  page.family("lifeboat_build_info", Type::kGauge, "Always 1; the labels say what runs here.");
  page.sample({{"version", LIFEBOAT_VERSION},
               {"role", to_string(node.self().role)},
               {"kernel", facts.kernel},
               {"criu", facts.criu_version == 0 ? "" : criu_version_text(facts.criu_version)}},
              1);
  const auto& credentials = node.credentials();
  if (!credentials) return;
  page.gauge("lifeboat_certificate_expiry_timestamp_seconds",
             "When this node's certificate expires, in seconds since 1970.",
             static_cast<double>(credentials->expires()));
  page.gauge("lifeboat_certificate_problem",
             "1 while the files of the certificate are not fit for use, and the last good ones count.",
             credentials->problem().empty() ? 0 : 1);
}

void add_state(Page& page, const Health& health, const std::string& self, double risk) {
  page.family("lifeboat_node_state", Type::kGauge, "1 for the state that this node is in by its own word.");
  for (const NodeCondition state : {NodeCondition::kUp, NodeCondition::kDegraded, NodeCondition::kDown}) {
    page.sample({{"state", to_string(state)}}, health.own().condition() == state ? 1 : 0);
  }
  page.gauge("lifeboat_node_risk_ratio",
             "Probability, by the predictor, that this node fails within predictor.horizon.", risk);
  const auto silent = std::count_if(health.all().begin(), health.all().end(), [&](const auto& item) {
    return item.first != self && item.second.reason(predictor::Cause::kHeartbeat) != nullptr;
  });
  page.gauge("lifeboat_nodes_silent",
             "Other nodes that count as down because they do not answer; 0 where nobody listens for them.",
             static_cast<double>(silent));
}

void add_containers(Page& page, const Node& node) {
  page.family("lifeboat_containers", Type::kGauge, "Containers on this node by state.");
  for (const ContainerState state : kStates) {
    const auto count = std::count_if(node.containers().begin(), node.containers().end(),
                                     [&](const auto& item) { return item.second->state() == state; });
    page.sample({{"state", to_string(state)}}, static_cast<double>(count));
  }
  const auto pagers = std::count_if(node.containers().begin(), node.containers().end(), [&](const auto& item) {
    return item.second->filling() || node.find_pager(item.second->migration()) != nullptr;
  });
  page.gauge("lifeboat_pagers", "Processes that hold memory of containers that came or come here.",
             static_cast<double>(pagers));
  page.gauge("lifeboat_memory_reserved_bytes", "Promised to the containers on this node.",
             static_cast<double>(node.memory_reserved_bytes()));
  page.gauge("lifeboat_memory_limit_bytes", "Room for containers on this node, as configured.",
             static_cast<double>(node.self().memory_bytes));
}

}  // namespace

std::string Agent::metrics() const {
  Page page;
  add_daemon(page, node_);
  add_state(page, node_.health(), node_.name(), watch_.risk());
  add_containers(page, node_);
  page.gauge("lifeboat_containers_stuck", "Containers that are to leave this node and cannot.",
             static_cast<double>(evacuation_.stuck()));
  node_.metrics().add_to(page);
  return page.text();
}

}  // namespace lifeboat
