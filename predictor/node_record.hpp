// node_record.hpp - all that the predictor keeps of one node.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "predictor/alarm.hpp"
#include "predictor/filter.hpp"
#include "predictor/history.hpp"
#include "predictor/memory_rules.hpp"

namespace lifeboat::predictor {

struct Evidence {
  Event event;
  std::string why;
};

// Evidence that is worth something, and how much: it fades as the horizon passes.
struct Signal {
  std::uint64_t key = 0;  // of its template, or of its rule and part
  Time time{};
  double probability = 0;
  double repeats = 1;     // after the filters
  double lead = 0;        // seconds, as learned; 0: not known
  Evidence evidence;
};

// An occurrence whose outcome is not known yet.
struct Pending {
  std::uint64_t key = 0;
  std::uint64_t family = 0;
  Time time{};
};

struct NodeRecord {
  std::string name;
  std::uint32_t group = 0;
  bool down = false;
  bool degraded = false;
  Time since{};            // of the present degraded/down
  Alarm alarm;
  Time probation_until{};
  Time repaired{};
  NodeHistory history;
  double history_risk = 0;  // at the last look
  double risk = 0;
  Time due{};               // when it is to be looked at again
  bool told = false;        // there is a change that nobody has taken yet
  std::vector<Signal> signals;  // at most evidence_max, oldest first
  std::array<Pending, 16> pending{};
  std::size_t pending_next = 0;
  SaidLately said;
  MemoryRules memory;
};

// Text forms for Predictor::save() and load().
[[nodiscard]] json::object to_json(const NodeRecord& node);
// Throws boost::system::system_error or std::out_of_range on what it did not write.
[[nodiscard]] NodeRecord node_record_from(const json::object& object);

}  // namespace lifeboat::predictor
