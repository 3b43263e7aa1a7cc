#include "evacuation_moves.hpp"

#include <algorithm>

#include "predictor/node_journal.hpp"
#include "progress.hpp"

namespace lifeboat {

MovePlan plan_evacuation(const Config& config, const json::array& view,
                         const std::vector<Leaver>& leavers) {
  const std::vector<NodeRoom> rooms = rooms_of(view);
  const FabricConfig& fabric = *config.find_fabric(config.default_fabric);
  const double bytes_per_s = static_cast<double>(fabric.rate_bits_per_s) / 8;
  MovePlan plan;
  std::vector<Leaver> placed;
  std::vector<std::string> targets;
  for (const Leaver& leaver : leavers) {
    placed.push_back(leaver);
    auto found = place_leavers(rooms, placed);
    if (found) {
      targets = std::move(*found);
      continue;
    }
    placed.pop_back();
    plan.unplaced.push_back({leaver.id, found.error().message});
  }
  for (std::size_t i = 0; i < placed.size(); ++i) {
    PlannedMove move;
    move.container = placed[i].id;
    move.from = placed[i].node;
    move.to = targets[i];
    move.fabric = fabric.name;
    move.takes_s = static_cast<double>(placed[i].memory_bytes) / bytes_per_s + kFixedLiveMs / 1000;
    move.why = move.to + " gets the fewest, and has room";
    plan.takes_s += move.takes_s;
    plan.moves.push_back(std::move(move));
  }
  return plan;
}

std::string storm_text(const EvacuationConfig& config, const json::array& view, predictor::Time since) {
  constexpr std::chrono::minutes kStorm{5};
  const auto in_storm = [&](const json::value& value) {
    auto reason = predictor::reason_from(value.get_object());
    return reason && reason->cause == predictor::Cause::kPredictor &&
           std::chrono::abs(reason->since - since) <= kStorm;
  };
  std::size_t nodes = 0;
  std::size_t together = 0;
  for (const json::value& item : view) {
    const json::object& node = item.get_object();
    if (string_or(node, "role") != "compute") continue;
    ++nodes;
    auto reasons = get_array(node, "reasons");
    if (reasons && std::any_of((*reasons)->begin(), (*reasons)->end(), in_storm)) ++together;
  }
  const auto most = config.facility_nodes > 0 ? static_cast<std::size_t>(config.facility_nodes)
                                              : std::max<std::size_t>(3, nodes / 10);
  if (together <= most) return "";
  return std::to_string(together) + " nodes turned degraded within five minutes, more than " +
         std::to_string(most) + " (evacuation.facility_nodes): this looks like the power, the cooling or "
         "the network";
}

json::object to_json(const MovePlan& plan) {
  json::array moves;
  for (const PlannedMove& move : plan.moves) {
    json::object entry{{"container", move.container}, {"from", move.from},
                       {"to", move.to},               {"fabric", move.fabric},
                       {"mode", to_string(move.mode)},           {"takes_s", move.takes_s},
                       {"why", move.why}};
    moves.push_back(std::move(entry));
  }
  json::array unplaced;
  for (const UnplacedContainer& one : plan.unplaced) {
    json::object entry{{"container", one.container}, {"why", one.why}};
    unplaced.push_back(std::move(entry));
  }
  return {{"moves", std::move(moves)}, {"unplaced", std::move(unplaced)}, {"takes_s", plan.takes_s}};
}

}  // namespace lifeboat
