// filter.hpp - one report for one cause. Three filters, in this order:
//
//   temporal  the same template at one place, each within a gap of the last: the first is kept
//             (Liang et al. 2005, "Filtering Failure Logs for a BlueGene/L Prototype")
//   semantic  other words for what the node has just said: keyword vectors whose correlation is above a
//             threshold that rises with the gap (Liang et al. 2007, "An Adaptive Semantic Filter")
//   spatial   the same template at other nodes within the gap: one failure with a set of nodes (Liang
//             2005); of too many nodes: the facility's failure, not theirs
//
// A cluster that goes on is told again after a time, so that a chain of unrelated events cannot hide a
// new one for ever. Memory is bounded: tables that forget the oldest.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "predictor/config.hpp"
#include "predictor/template.hpp"

namespace lifeboat::predictor {

class TemporalFilter {
 public:
  explicit TemporalFilter(const FilterConfig& config);
  // True if (node, location, template) was said within the gap: nothing new.
  bool repeated(std::uint32_t node, std::string_view location, std::uint64_t template_hash,
                Time now);

 private:
  struct Entry {
    std::uint64_t key = 0;
    Time first{};
    Time last{};
  };
  static constexpr std::size_t kWays = 4;
  static constexpr std::size_t kEntries = 1 << 16;

  FilterConfig config_;
  std::vector<Entry> entries_;
};

// What a node said last, for the semantic filter.
struct Said {
  Keywords words;
  Time time{};
  std::uint64_t template_hash = 0;
  Severity severity = Severity::kDebug;
};
struct SaidLately {
  std::array<Said, 4> records;
  std::size_t next = 0;
};

// The correlation (phi) of two keyword vectors, -1 to 1.
[[nodiscard]] double correlation(const Keywords& a, const Keywords& b);
// The correlation above which two records that far apart are one.
[[nodiscard]] double semantic_threshold(Duration gap);
// True if the node has just said so in other words. Never for what is worse than what was said, and
// never for the same template (the temporal filter's business). Remembers the record otherwise.
bool redundant(SaidLately& lately, const Keywords& words, std::uint64_t template_hash,
               Severity severity, Time now);

// Adds the node to the template's cluster. True if with it the cluster has more than
// `facility_nodes` nodes.
bool facility_wide(const FilterConfig& config, Cluster& cluster, std::uint32_t node, Time now);

}  // namespace lifeboat::predictor
