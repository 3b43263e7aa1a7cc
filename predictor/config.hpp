// config.hpp - what can be set about the predictor: section `predictor` of configs/lifeboat.yaml,
// which documents every key, its default, unit, range and reason. All but `probation`, in place of
// which a daemon has health.probation.
#pragma once

#include <chrono>
#include <cstddef>

#include "base/yaml_reader.hpp"
#include "predictor/event.hpp"

namespace lifeboat::predictor {

// Fewer events: one report for one cause.
struct FilterConfig {
  bool temporal = true;                        // repetition at one place
  bool semantic = true;                        // the same thing in other words at one node
  Duration gap = std::chrono::seconds(300);    // from the last of a cluster to the next
  Duration length_max = std::chrono::hours(1); // of a cluster; then it is told again
  bool facility = true;                        // one template at many nodes is not a node's failure
  int facility_nodes = 16;                     // more than these within `gap`
};

// P(down within the horizon | template), learned as failures come.
struct TemplateConfig {
  bool on = true;
  std::size_t max = 4096;    // templates remembered; the least useful goes first
  double prior_weight = 4;   // occurrences that the prior counts for
};

// Errors that hardware corrected, per part (DIMM, processor).
struct MemoryConfig {
  bool on = true;
  double corrected_max = 10;                     // in `window`: more than these are a sign
  double processor_max = 18;                     // corrected machine checks of one processor
  Duration window = std::chrono::hours(24);
  int regions_max = 2;                           // distinct rows or banks of one DIMM
  double storm = 1000;                           // corrected errors in one report: a storm
};

// Hazard from the failures of a node and of its group, learned as they come.
struct HistoryConfig {
  bool on = true;
  double learning = 1;  // 0: the shipped weights stay
};

// Weibull hazard since the repair.
struct ProbationConfig {
  bool on = true;
  double shape = 0.61;                              // below 1: the longer it works, the safer
  Duration scale = std::chrono::hours(24 * 85);
  Duration length = std::chrono::hours(24);         // degraded for so long after a repair
};

struct PredictorConfig {
  Duration horizon = std::chrono::hours(24);     // what risks are about
  Duration lead_min = std::chrono::seconds(120); // a warning later than this is none
  double degraded_at = 0.3;                      // risk that turns a node degraded
  double healthy_below = 0.1;                    // ... and up again
  Duration hold = std::chrono::hours(1);         // degraded at least for so long
  std::size_t evidence_max = 16;                 // per node
  std::size_t nodes_max = 65536;                 // further ones are ignored
  FilterConfig filter;
  TemplateConfig templates;
  MemoryConfig memory;
  HistoryConfig history;
  ProbationConfig probation;
};

// Reads the mapping `predictor:`; mistakes are noted in the reader.
void read_predictor(yaml::Reader& m, PredictorConfig& out);

}  // namespace lifeboat::predictor
