// evacuation_plan.hpp - how containers get off nodes that fail or go into maintenance: which one,
// where to, over which fabric, in which mode, in which order, how many at once, and why. Pure:
// looks at values, returns values; the same request gives the same plan, in whatever order it lists
// things.
//
// Something changed (a step failed, a target went bad): ask again, with what is still going on as
// `under_way`, so that the room and the wire promised to it count. What found no place is in
// `unplaced`; ask again when there may be room.
//
//   Request request = ...;                        // the cluster, and {"n3", Reason::kFailing, 600}
//   TRY(const Plan plan, plan_evacuation(request));
//   for (const Step& step : plan.steps) ...       // start them in this order
//
// All times are seconds from now, all rates bytes per second.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace lifeboat::evacuation {

// kUp takes containers. kProbation (just repaired) does as a last resort, if that is allowed. The
// others never do.
enum class Health { kUp, kProbation, kSuspect, kDegraded, kDown, kMaintenance };
[[nodiscard]] const char* to_string(Health health);

enum class Mode { kPreCopy, kStopAndCopy, kPostCopy, kHybrid };
[[nodiscard]] const char* to_string(Mode mode);

// Why a node is to be empty: it may fail at any time from now on, or somebody will switch it off.
enum class Reason { kFailing, kMaintenance };
[[nodiscard]] const char* to_string(Reason reason);

struct Fabric {
  std::string name;
  double total_bytes_per_s = 0;  // of all migrations over it together; 0: no bound but the nodes'
  // What one migration got at most, as measured; 0: not known, only the wire is a bound.
  double measured_bytes_per_s = 0;
  unsigned at_once = 0;  // migrations at the same time; 0: no limit
};

struct Node {
  std::string name;
  Health health = Health::kUp;
  bool accepts = true;                    // false: an operator keeps it free
  std::uint64_t memory_free_bytes = 0;    // without what is under way to it
  unsigned slots_free = 0;                // without what is under way to it
  std::map<std::string, double> fabrics;  // it has an address on -> speed of its wire
  std::string domain;                     // what fails together (a rack); empty: not known
  unsigned preference = 0;                // as a target, lower first: spares 0, others 1
};

struct Container {
  std::string id;
  std::string job;                          // empty: belongs to none
  std::string node;                         // where it runs
  std::uint64_t memory_bytes = 0;           // that must be free at the target
  std::uint64_t resident_bytes = 0;         // to be moved
  std::uint64_t layer_bytes = 0;            // of its root file system, to be moved as well
  std::optional<double> dirty_bytes_per_s;  // memory written for the first time since the last look
  std::vector<std::string> fabrics;         // on which it has an address: its node must, too
  std::set<std::string> allocation;         // nodes that its job was given; empty: it may go anywhere
  std::string cannot_move;                  // why its node would refuse to move it; empty: it would not
  std::set<std::string> outside;            // where else it may go when none of these has room
};

struct Evacuation {
  std::string node;
  Reason reason = Reason::kFailing;
  // kFailing: when it is expected to fail. kMaintenance: when it must be empty.
  std::optional<double> lead_s;
};

struct UnderWay {
  std::string container;
  std::string to;
  std::string fabric;
  std::uint64_t bytes_left = 0;
};

struct PastMove {
  std::string container;
  std::string from;
  double seconds_ago = 0;
};

struct Limits {
  unsigned leaving_per_node = 4;
  unsigned arriving_per_node = 4;
  unsigned frozen_per_node = 1;
  unsigned per_cluster = 0;  // migrations at the same time; 0: no limit
};

// What was measured of earlier migrations.
struct Learned {
  double setup_s = 0.3;              // connection, checks, the target prepared; the container runs
  double freeze_s = 0.1;             // of the downtime, what does not depend on its memory
  double dirty_bytes_per_s = 200e6;  // of containers for which nothing better is known
};

struct Settings {
  double safety_factor = 1.5;       // predictions may be wrong by this much
  double unknown_lead_s = 120;      // of a failing node that nobody can say more of
  double downtime_budget_s = 0.05;  // sending while frozen
  unsigned rounds_max = 30;
  double hold_s = 3600;             // no way back to a node that was left so short ago
  double settle_s = 300;            // nor anywhere, if the node it is on now is not failing
  unsigned ranks_per_node_max = 0;  // of one job on a target; 0: no limit
  bool allow_probation = false;
  bool allow_post_copy = false;  // from a healthy source (maintenance) that pre-copy cannot empty
  // What a target may cost more in time rather than be a worse one.
  double same_job_s = 30;    // for each rank of the job that it already has
  double same_domain_s = 5;  // for having one in its domain
  double preference_s = 1;   // for each step of preference
};

struct Request {
  std::vector<Fabric> fabrics;
  std::vector<Node> nodes;
  std::vector<Container> containers;  // all there are, also those that stay
  std::vector<Evacuation> evacuations;
  std::vector<UnderWay> under_way;
  std::vector<PastMove> past;
  Limits limits;
  Learned learned;
  Settings settings;
};

// `after`, `wave`: what has to end before it can start. 0 and 1: nothing.
struct Step {
  std::string container;
  std::string from;
  std::string to;
  std::string fabric;
  Mode mode = Mode::kPreCopy;
  unsigned after = 0;  // number of a step, counted from 1; under way ones have none
  unsigned wave = 1;   // steps of a wave have as many others before them
  double start_s = 0;
  double duration_s = 0;  // until nothing of it is left at the source
  double downtime_s = 0;
  // By when it has to be away for those after it to be in time as well. Infinity: there is no hurry.
  double latest_end_s = std::numeric_limits<double>::infinity();
  std::string why;
};

struct NodeForecast {
  std::string node;
  Reason reason = Reason::kFailing;
  std::optional<double> lead_s;  // as requested
  unsigned leaving = 0;          // containers, with those under way
  unsigned unplaced = 0;
  unsigned in_time = 0;  // away before lead_s, or unknown_lead_s
  double start_s = 0;    // of the first step
  double end_s = 0;      // of the last; 0: none
  bool fits = false;     // empty in time, even if everything takes safety_factor times as long
  // kMaintenance with a lead: its steps need not start before.
  double latest_start_s = 0;
};

struct Unplaced {
  std::string container;
  std::string node;
  std::string why;
};

// A migration under way that should not go on; the plan counts it as if it did not.
struct Cancel {
  std::string container;
  std::string to;
  std::string why;
};

struct Plan {
  std::vector<Step> steps;          // by start
  std::vector<NodeForecast> nodes;  // most urgent first
  std::vector<Unplaced> unplaced;
  std::vector<Cancel> cancel;
  unsigned streams_per_wire = 1;  // migrations at once over each wire of a source
  double end_s = 0;
  unsigned jobs = 0;        // with containers on failing nodes
  unsigned jobs_saved = 0;  // of these, all of them away in time
  std::string why;          // the order and the number of streams that were chosen
};

// kInvalid: a name is there twice or is not known, a rate or a time makes no sense.
Result<Plan> plan_evacuation(const Request& request);

}  // namespace lifeboat::evacuation
