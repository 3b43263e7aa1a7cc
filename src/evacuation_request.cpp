#include "evacuation_request.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "cluster_view.hpp"
#include "container.hpp"
#include "predictor/node_journal.hpp"

namespace lifeboat {
namespace {

using predictor::Cause;
using predictor::NodeCondition;

evacuation::Health health_of(const json::object& node) {
  const json::value* reachable = node.if_contains("reachable");
  const bool silent = reachable != nullptr && reachable->is_bool() && !reachable->get_bool();
  const std::string state = string_or(node, "state", "up");
  if (silent || state == to_string(NodeCondition::kDown)) return evacuation::Health::kDown;
  if (state == to_string(NodeCondition::kUp)) return evacuation::Health::kUp;
  const std::string cause = string_or(node, "cause");
  if (cause == to_string(Cause::kProbation)) return evacuation::Health::kProbation;
  if (cause == to_string(Cause::kMaintenance)) return evacuation::Health::kMaintenance;
  return evacuation::Health::kDegraded;
}

bool is_arriving(const json::object& container) {
  return string_or(container, "state") == to_string(ContainerState::kArriving);
}

evacuation::Node node_from(const Config& config, const json::object& node) {
  evacuation::Node out;
  out.name = string_or(node, "name");
  out.health = health_of(node);
  // Without CRIU it can take none.
  out.accepts = !string_or(node, "criu").empty();
  out.memory_free_bytes = get_u64(node, "memory_free_bytes").value_or(0);
  out.slots_free = static_cast<unsigned>(get_u64(node, "slots_free").value_or(0));
  // The planner takes off itself what is under way.
  for (const json::object* container : objects_of(node, "containers")) {
    if (!is_arriving(*container)) continue;
    out.memory_free_bytes += get_u64(*container, "memory_bytes").value_or(0);
    ++out.slots_free;
  }
  const NodeConfig* configured = config.find_node(out.name);
  if (configured == nullptr) return out;
  for (const auto& [fabric, address] : configured->addresses) {
    out.fabrics[fabric] = static_cast<double>(config.find_fabric(fabric)->rate_bits_per_s) / 8;
  }
  return out;
}

// Of Slurm, as the heads know it.
struct Allocations {
  std::map<std::string, std::set<std::string>> nodes;  // of each job
  std::set<std::string> idle;
  std::set<std::string> closed;  // by somebody's word there
};

std::set<std::string> names_in(const json::object& object, std::string_view key) {
  constexpr std::size_t kNamesMax = 65536;
  const auto names = get_strings(object, key, kNamesMax).value_or(std::vector<std::string>{});
  return {names.begin(), names.end()};
}

Allocations allocations_from(const json::array& view) {
  Allocations found;
  for (const json::value& item : view) {
    const auto slurm = get_object(item.get_object(), "slurm");
    if (!slurm) continue;
    found.idle.merge(names_in(**slurm, "idle"));
    found.closed.merge(names_in(**slurm, "closed"));
    const auto jobs = get_object(**slurm, "allocations");
    if (!jobs) continue;
    for (const auto& job : **jobs) found.nodes[std::string(job.key())] = names_in(**jobs, job.key());
  }
  return found;
}

evacuation::Container container_from(const json::object& container, const std::string& node) {
  evacuation::Container out;
  out.id = string_or(container, "id");
  out.job = string_or(container, "job");
  out.node = node;
  out.cannot_move = string_or(container, "cannot_move");
  out.memory_bytes = get_u64(container, "memory_bytes").value_or(0);
  out.resident_bytes = get_u64(container, "resident_bytes").value_or(0);
  if (auto addresses = get_object(container, "addresses")) {
    for (const auto& address : **addresses) out.fabrics.emplace_back(address.key());
  }
  return out;
}

// It is not to go back and forth between two nodes.
void add_past(const json::object& container, double now_s, evacuation::Request& request) {
  std::string from = string_or(container, "came_from");
  if (from.empty()) return;
  const double seconds_ago = std::max(0.0, now_s - number_or(container, "came_at"));
  request.past.push_back({string_or(container, "id"), std::move(from), seconds_ago});
}

void add_containers(const json::object& node, double now_s, std::set<std::string>& known,
                    evacuation::Request& request) {
  const std::string name = string_or(node, "name");
  for (const json::object* container : objects_of(node, "containers")) {
    // Both ends of a migration name it; it lives at the source until the commit.
    if (is_arriving(*container)) continue;
    if (!known.insert(string_or(*container, "id")).second) continue;
    request.containers.push_back(container_from(*container, name));
    add_past(*container, now_s, request);
  }
}

void add_under_way(const json::object& node, const std::set<std::string>& known,
                   evacuation::Request& request) {
  for (const json::object* migration : objects_of(node, "migrations")) {
    const auto resident = get_u64(*migration, "resident_bytes").value_or(0);
    const auto sent = get_u64(*migration, "bytes_sent").value_or(0);
    evacuation::UnderWay move;
    move.container = string_or(*migration, "container");
    move.to = string_or(*migration, "target");
    move.fabric = string_or(*migration, "fabric");
    move.bytes_left = resident - std::min(resident, sent);
    if (known.contains(move.container)) request.under_way.push_back(std::move(move));
  }
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

evacuation::Request request_from(const Config& config, const json::array& view,
                                 predictor::Time now, evacuation::Evacuation leaving) {
  const double now_s = std::chrono::duration<double>(now.time_since_epoch()).count();
  evacuation::Request request;
  for (const FabricConfig& fabric : config.fabrics) {
    evacuation::Fabric out;
    out.name = fabric.name;
    request.fabrics.push_back(std::move(out));
  }
  std::set<std::string> known;
  for (const json::value& item : view) {
    const json::object& node = item.get_object();
    if (string_or(node, "role") != to_string(NodeRole::kCompute)) continue;
    request.nodes.push_back(node_from(config, node));
    add_containers(node, now_s, known, request);
  }
  const Allocations allocations = allocations_from(view);
  for (evacuation::Container& container : request.containers) {
    const auto given = allocations.nodes.find(container.job);
    if (given == allocations.nodes.end()) continue;
    container.allocation = given->second;
    container.outside = allocations.idle;
  }
  for (evacuation::Node& node : request.nodes) node.accepts = node.accepts && !allocations.closed.contains(node.name);
  for (const json::value& item : view) add_under_way(item.get_object(), known, request);
  request.limits.leaving_per_node = static_cast<unsigned>(config.limits.migrations_per_node);
  request.limits.arriving_per_node = static_cast<unsigned>(config.limits.arrivals_per_node);
  request.limits.frozen_per_node = static_cast<unsigned>(config.limits.frozen_per_node);
  request.settings.downtime_budget_s =
      std::chrono::duration<double>(config.engine.downtime_budget).count();
  request.settings.rounds_max = static_cast<unsigned>(config.engine.rounds_max);
  // A person who empties a node, or one that fails, does not wait for its containers to settle.
  request.settings.settle_s = 0;
  request.evacuations.push_back(std::move(leaving));
  return request;
}

void learn_from(const Node::Migrations& migrations, evacuation::Request& request) {
  constexpr std::uint64_t kBytesMin = 16U << 20;  // less says little of the wire
  std::vector<double> downtimes;
  for (const auto& [id, report] : migrations) {
    if (report->outcome != Outcome::kCommitted) continue;
    downtimes.push_back(report->times.downtime / 1000);
    if (report->bytes_sent < kBytesMin || report->times.pre_copy <= 0) continue;
    const double rate = static_cast<double>(report->bytes_sent) / (report->times.pre_copy / 1000);
    for (evacuation::Fabric& fabric : request.fabrics) {
      if (fabric.name != report->fabric) continue;
      fabric.measured_bytes_per_s = std::max(fabric.measured_bytes_per_s, rate);
    }
  }
  if (!downtimes.empty()) request.learned.freeze_s = median(std::move(downtimes));
}

std::string storm_text(const EvacuationConfig& config, const json::array& view, predictor::Time since) {
  constexpr std::chrono::minutes kStorm{5};
  const auto in_storm = [&](const json::object* said) {
    auto reason = predictor::reason_from(*said);
    return reason && reason->cause == predictor::Cause::kPredictor &&
           std::chrono::abs(reason->since - since) <= kStorm;
  };
  std::size_t nodes = 0;
  std::size_t together = 0;
  for (const json::value& item : view) {
    const json::object& node = item.get_object();
    if (string_or(node, "role") != "compute") continue;
    ++nodes;
    const std::vector<const json::object*> reasons = objects_of(node, "reasons");
    if (std::any_of(reasons.begin(), reasons.end(), in_storm)) ++together;
  }
  const auto most = config.facility_nodes > 0 ? static_cast<std::size_t>(config.facility_nodes)
                                              : std::max<std::size_t>(3, nodes / 10);
  if (together <= most) return "";
  return std::to_string(together) + " nodes turned degraded within five minutes, more than " +
         std::to_string(most) + " (evacuation.facility_nodes): this looks like the power, the cooling or "
         "the network";
}

}  // namespace lifeboat
