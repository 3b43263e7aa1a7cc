// evacuation_model.hpp - a request as the planner works on it: sorted, checked, by index instead of
// by name. Part of the planner (evacuation_plan.hpp), not for others.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <unordered_map>
#include <vector>

#include "evacuation_plan.hpp"

namespace lifeboat::evacuation {

using Index = std::uint32_t;
inline constexpr Index kNone = std::numeric_limits<Index>::max();
inline constexpr std::size_t kFabricsMax = 32;  // bits of a mask

// A node, in the order of names.
struct ModelNode {
  const Node* given = nullptr;
  std::uint32_t fabrics = 0;            // mask
  std::uint64_t memory_free_bytes = 0;  // without what is promised
  unsigned slots_free = 0;
  Index domain = kNone;
  Index source = kNone;
  std::string excluded;  // why it takes nothing; empty: it may
};

// A node to be emptied, most urgent first.
struct Source {
  Index node = 0;
  const Evacuation* given = nullptr;
  double deadline_s = 0;  // infinity for a window without an end
};

// A container that is to leave, in the order of ids.
struct Leaver {
  const Container* given = nullptr;
  Index source = 0;
  Index job = 0;
  std::uint32_t fabrics = 0;  // mask of addresses it has
  double bytes = 0;           // resident and layer
  double dirty_bytes_per_s = 0;
  std::vector<Index> held;  // nodes it left a short time ago
};

struct ModelUnderWay {
  const UnderWay* given = nullptr;
  Index from = 0;
  Index to = 0;
  Index fabric = 0;
};

// How many ranks of a job a node or a domain has.
class JobCounts {
 public:
  [[nodiscard]] unsigned get(Index job, Index place) const {
    const auto at = counts_.find(key(job, place));
    return at == counts_.end() ? 0 : at->second;
  }
  void add(Index job, Index place) { ++counts_[key(job, place)]; }

 private:
  static std::uint64_t key(Index job, Index place) {
    return (static_cast<std::uint64_t>(job) << 32) | place;
  }
  std::unordered_map<std::uint64_t, unsigned> counts_;
};

struct Model {
  const Request* request = nullptr;
  std::vector<const Fabric*> fabrics;  // by name
  std::vector<ModelNode> nodes;
  std::vector<double> rates;  // node x fabric
  std::vector<Source> sources;
  std::vector<Leaver> leavers;
  std::vector<ModelUnderWay> under_way;
  std::vector<unsigned> job_ranks;  // of each job of a leaver, wherever they are
  std::vector<bool> job_lost;       // has one on a node that is down
  JobCounts on_node;                // of these, ranks that stay or come
  JobCounts in_domain;
  std::vector<Unplaced> staying;  // on a node that is down, or moved a short time ago
  std::vector<Cancel> cancel;

  [[nodiscard]] double rate(Index node, Index fabric) const {
    return rates[node * fabrics.size() + fabric];
  }
  // Of all wires of a node together.
  [[nodiscard]] double rate_of_all(Index node) const {
    double sum = 0;
    for (Index fabric = 0; fabric < fabrics.size(); ++fabric) sum += rate(node, fabric);
    return sum;
  }
  // Of all wires between two nodes together.
  [[nodiscard]] double rate_between(Index from, Index to) const {
    double sum = 0;
    for (Index fabric = 0; fabric < fabrics.size(); ++fabric) {
      sum += std::min(rate(from, fabric), rate(to, fabric));
    }
    return sum;
  }
  // What is lost with one rank of a job: nothing that is not lost already.
  [[nodiscard]] unsigned ranks_to_save(Index job) const {
    return job_lost[job] ? 0 : job_ranks[job];
  }
};

// "12.3 s".
[[nodiscard]] std::string seconds_text(double seconds);

// kInvalid as plan_evacuation(). `request` must outlive the model.
Result<Model> make_model(const Request& request);

}  // namespace lifeboat::evacuation
