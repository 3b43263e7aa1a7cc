// evacuation_moves.hpp - what a node that is to be empty does with each of its containers.
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"
#include "cluster_view.hpp"
#include "config.hpp"
#include "predictor/event.hpp"
#include "report.hpp"

namespace lifeboat {

struct PlannedMove {
  std::string container;
  std::string from;
  std::string to;
  std::string fabric;
  MigrationMode mode = MigrationMode::kPreCopy;
  double takes_s = 0;  // predicted, from its start
  std::string why;
};

struct UnplacedContainer {
  std::string container;
  std::string why;
};

struct MovePlan {
  std::vector<PlannedMove> moves;  // in the order in which they are to start
  std::vector<UnplacedContainer> unplaced;
  double takes_s = 0;  // predicted, until the last is away
};

// A plan for `leavers`, which are on one node, given what all nodes say of themselves.
MovePlan plan_evacuation(const Config& config, const json::array& view,
                         const std::vector<Leaver>& leavers);

// One storm must not empty the machine room: its cause is not in the nodes. What speaks for one, when a
// node was called degraded by the predictor at `since`: more nodes than evacuation.facility_nodes were
// within five minutes. Empty: nothing does.
std::string storm_text(const EvacuationConfig& config, const json::array& view, predictor::Time since);

// {"moves":[...],"unplaced":[...],"takes_s"}
json::object to_json(const MovePlan& plan);

}  // namespace lifeboat
