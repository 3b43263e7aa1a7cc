// evacuation_report.hpp - a plan of evacuation for people (`lifeboat evacuate --dry-run`) and for
// programs (`--json`).
#pragma once

#include <string>

#include "base/json.hpp"
#include "evacuation_plan.hpp"

namespace lifeboat::evacuation {

// Steps as a table, then nodes, what found no place, and what is to be cancelled.
[[nodiscard]] std::string to_text(const Plan& plan);

// {steps: [{step, container, from, to, fabric, mode, after, wave, start_s, duration_s, downtime_s,
// why}], nodes: [{node, reason, lead_s?, leaving, unplaced, in_time, start_s, end_s, fits,
// latest_start_s}], unplaced: [{container, node, why}], cancel: [{container, to, why}],
// streams_per_wire, end_s, jobs, jobs_saved, why}
[[nodiscard]] json::object to_json(const Plan& plan);

}  // namespace lifeboat::evacuation
