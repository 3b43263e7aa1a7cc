// evacuation_timing.hpp - how long migrations take that share wires and wait for each other's
// places. Part of the planner (evacuation_plan.hpp), and of what measures it.
#pragma once

#include <vector>

#include "evacuation_model.hpp"

namespace lifeboat::evacuation {

// The container's way, decided before it starts. `mode` is chosen when it does.
struct Trip {
  Index leaver = 0;
  Index target = kNone;  // kNone: it stays
  Index fabric = 0;
};

struct TripTimes {
  double start_s = 0;
  double end_s = 0;
  double downtime_s = 0;
  double rate_bytes_per_s = 0;  // expected when it started
  Mode mode = Mode::kPreCopy;
  Index after = kNone;  // the trip whose end let it start
};

// Who may start when.
struct Schedule {
  std::vector<Trip> trips;                 // one per leaver, in their order
  std::vector<std::vector<Index>> queues;  // per source: trips in the order in which they start
  std::vector<double> release_s;           // per source: nothing starts before
  unsigned streams_per_wire = 1;
};

struct Timetable {
  std::vector<TripTimes> trips;  // in the schedule's order, then what is under way
  double end_s = 0;
  double sum_s = 0;  // of all ends
};

// Plays the schedule. Simultaneous migrations share each wire, at both ends, in equal parts, except
// that a frozen one goes first (as wire_shares.hpp does); what a slower end leaves over is
// nobody's, so the times are rather too long. A migration starts as soon as it is within the
// limits, the most urgent source first.
[[nodiscard]] Timetable play(const Model& model, const Schedule& schedule);

}  // namespace lifeboat::evacuation
