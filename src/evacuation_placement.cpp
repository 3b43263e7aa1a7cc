#include "evacuation_placement.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

#include "evacuation_forecast.hpp"

namespace lifeboat::evacuation {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Targets with room that are looked at for one container, the most promising first.
constexpr unsigned kExaminedMax = 256;
// Of two targets that are equal otherwise: all of the memory of the largest, in seconds.
constexpr double kFillCostS = 0.1;
constexpr double kLastResortS = 1e9;
constexpr double kOutsideS = 1e6;  // of its job's allocation

// Of all targets the least cost and the most free memory of each part, so that a search passes over
// parts where nothing is to be found. A binary tree in an array, leaves in the order of names.
class TargetTree {
 public:
  explicit TargetTree(std::size_t leaves) {
    while (size_ < leaves) size_ *= 2;
    parts_.resize(2 * size_);
  }

  void set(Index leaf, double cost, std::uint64_t memory) {
    std::size_t at = size_ + leaf;
    parts_[at] = {cost, memory};
    for (at /= 2; at > 0; at /= 2) {
      const Part& left = parts_[2 * at];
      const Part& right = parts_[2 * at + 1];
      parts_[at] = {std::min(left.cost, right.cost), std::max(left.memory, right.memory)};
    }
  }

  // The leaf with the least `cost_of(leaf)`, which is infinite for one that will not do and else
  // not less than `least` plus the cost in the tree; kNone when there is none.
  template <class CostOf>
  Index find(std::uint64_t memory, double least, CostOf cost_of) const {
    Search search{memory, least};
    visit(1, search, cost_of);
    return search.best;
  }

 private:
  struct Part {
    double cost = kInfinity;
    std::uint64_t memory = 0;
  };
  struct Search {
    std::uint64_t memory;
    double least;
    double cost = kInfinity;
    Index best = kNone;
    unsigned examined = 0;
  };

  template <class CostOf>
  void visit(std::size_t at, Search& search, CostOf& cost_of) const {
    const Part& part = parts_[at];
    if (part.memory < search.memory || part.cost + search.least >= search.cost) return;
    if (search.examined >= kExaminedMax) return;
    if (at < size_) {
      const bool right_first = parts_[2 * at + 1].cost < parts_[2 * at].cost;
      visit(2 * at + (right_first ? 1 : 0), search, cost_of);
      visit(2 * at + (right_first ? 0 : 1), search, cost_of);
      return;
    }
    const auto leaf = static_cast<Index>(at - size_);
    const double cost = cost_of(leaf);
    if (cost < kInfinity) ++search.examined;
    if (cost < search.cost) {
      search.cost = cost;
      search.best = leaf;
    }
  }

  std::size_t size_ = 1;
  std::vector<Part> parts_;
};

// Why a node cannot take a container.
enum class Obstacle { kNone, kMemory, kSlots, kAddresses, kNoWire, kHeld, kRanks, kAllocation };

// The targets as they fill up.
class Room {
 public:
  explicit Room(const Model& model)
      : model_(model),
        settings_(model.request->settings),
        on_node_(model.on_node),
        in_domain_(model.in_domain) {
    for (const ModelNode& node : model.nodes) {
      memory_.push_back(node.memory_free_bytes);
      slots_.push_back(node.slots_free);
    }
    load_s_.resize(memory_.size());
    for (const ModelUnderWay& trip : model.under_way) {
      load_s_[trip.to] += static_cast<double>(trip.given->bytes_left) / model.rate_of_all(trip.to);
    }
  }

  Obstacle obstacle(const Leaver& leaver, Index node) const {
    const std::uint32_t fabrics = model_.nodes[node].fabrics;
    const Index from = model_.sources[leaver.source].node;
    if (!allocated(leaver, node) && !leaver.given->outside.contains(model_.nodes[node].given->name)) {
      return Obstacle::kAllocation;
    }
    if (memory_[node] < leaver.given->memory_bytes) return Obstacle::kMemory;
    if (slots_[node] == 0) return Obstacle::kSlots;
    if ((fabrics & leaver.fabrics) != leaver.fabrics) return Obstacle::kAddresses;
    if ((fabrics & model_.nodes[from].fabrics) == 0) return Obstacle::kNoWire;
    if (std::find(leaver.held.begin(), leaver.held.end(), node) != leaver.held.end()) {
      return Obstacle::kHeld;
    }
    const unsigned most = settings_.ranks_per_node_max;
    if (most > 0 && on_node_.get(leaver.job, node) >= most) return Obstacle::kRanks;
    return Obstacle::kNone;
  }

  bool allocated(const Leaver& leaver, Index node) const {
    const std::set<std::string>& own = leaver.given->allocation;
    return own.empty() || own.contains(model_.nodes[node].given->name);
  }

  // Whether it can take anything at all.
  bool open(Index node) const { return model_.nodes[node].excluded.empty() && slots_[node] > 0; }

  // Seconds that speak against a target whatever comes: the wait for what comes to it already, and
  // its rank. One on probation costs more than anything else could.
  double cost(Index node) const {
    const ModelNode& target = model_.nodes[node];
    const double last_resort = target.given->health == Health::kUp ? 0 : kLastResortS;
    return load_s_[node] + settings_.preference_s * target.given->preference + last_resort;
  }

  // What the job adds to it.
  double spread_cost(const Leaver& leaver, Index node) const {
    const unsigned ranks = on_node_.get(leaver.job, node);
    const Index domain = model_.nodes[node].domain;
    const bool near = domain != kNone && in_domain_.get(leaver.job, domain) > 0;
    return settings_.same_job_s * ranks + (near ? settings_.same_domain_s : 0) +
           (allocated(leaver, node) ? 0 : kOutsideS);
  }

  // That it takes, sent once and alone.
  double seconds(const Leaver& leaver, Index node) const {
    return leaver.bytes / model_.rate_between(model_.sources[leaver.source].node, node);
  }

  void take(const Leaver& leaver, Index node) {
    memory_[node] -= leaver.given->memory_bytes;
    --slots_[node];
    load_s_[node] += seconds(leaver, node);
    on_node_.add(leaver.job, node);
    const Index domain = model_.nodes[node].domain;
    if (domain != kNone) in_domain_.add(leaver.job, domain);
  }

  [[nodiscard]] std::uint64_t memory(Index node) const { return memory_[node]; }
  [[nodiscard]] unsigned slots(Index node) const { return slots_[node]; }
  [[nodiscard]] double load_s(Index node) const { return load_s_[node]; }
  [[nodiscard]] unsigned ranks(Index job, Index node) const { return on_node_.get(job, node); }

 private:
  const Model& model_;
  const Settings& settings_;
  JobCounts on_node_;
  JobCounts in_domain_;
  std::vector<std::uint64_t> memory_;
  std::vector<unsigned> slots_;
  std::vector<double> load_s_;  // until everything that comes is there, over all its wires
};

std::vector<Index> choose_balanced(const Model& model, const std::vector<Index>& order) {
  Room room(model);
  TargetTree tree(model.nodes.size());
  std::uint64_t largest = 1;
  double fastest = 0;
  for (Index node = 0; node < model.nodes.size(); ++node) {
    if (!model.nodes[node].excluded.empty()) continue;
    largest = std::max(largest, room.memory(node));
    fastest = std::max(fastest, model.rate_of_all(node));
  }
  const auto cost = [&](Index node) {
    const double filled = 1 - static_cast<double>(room.memory(node)) / static_cast<double>(largest);
    return room.cost(node) + kFillCostS * filled;
  };
  for (Index node = 0; node < model.nodes.size(); ++node) {
    if (room.open(node)) tree.set(node, cost(node), room.memory(node));
  }
  std::vector<Index> targets(model.leavers.size(), kNone);
  for (const Index index : order) {
    const Leaver& leaver = model.leavers[index];
    const auto cost_of = [&](Index node) {
      if (room.obstacle(leaver, node) != Obstacle::kNone) return kInfinity;
      return cost(node) + room.seconds(leaver, node) + room.spread_cost(leaver, node);
    };
    const double most = std::min(fastest, model.rate_of_all(model.sources[leaver.source].node));
    const double least = most > 0 ? leaver.bytes / most : 0;
    const Index target = tree.find(leaver.given->memory_bytes, least, cost_of);
    if (target == kNone) continue;
    room.take(leaver, target);
    tree.set(target, room.open(target) ? cost(target) : kInfinity, room.memory(target));
    targets[index] = target;
  }
  return targets;
}

std::vector<Index> choose_tight(const Model& model, const std::vector<Index>& order) {
  Room room(model);
  std::set<std::pair<std::uint64_t, Index>> by_memory;
  for (Index node = 0; node < model.nodes.size(); ++node) {
    if (room.open(node)) by_memory.emplace(room.memory(node), node);
  }
  std::vector<Index> targets(model.leavers.size(), kNone);
  for (const Index index : order) {
    const Leaver& leaver = model.leavers[index];
    Index& target = targets[index];
    for (auto at = by_memory.lower_bound({leaver.given->memory_bytes, 0}); at != by_memory.end();
         ++at) {
      const Index node = at->second;
      if (room.obstacle(leaver, node) != Obstacle::kNone) continue;
      const bool last_resort =
          model.nodes[node].given->health == Health::kProbation || !room.allocated(leaver, node);
      if (last_resort && target != kNone) continue;
      target = node;
      if (!last_resort) break;
    }
    if (target == kNone) continue;
    by_memory.erase({room.memory(target), target});
    room.take(leaver, target);
    if (room.open(target)) by_memory.emplace(room.memory(target), target);
  }
  return targets;
}

}  // namespace

std::vector<Index> choose_targets(const Model& model, const std::vector<Index>& order, Fit fit) {
  return fit == Fit::kBalanced ? choose_balanced(model, order) : choose_tight(model, order);
}

void choose_fabrics(const Model& model, std::vector<Trip>& trips) {
  const std::size_t fabrics = model.fabrics.size();
  std::vector<double> out_s(model.nodes.size() * fabrics);  // until a wire has sent everything
  std::vector<double> in_s(out_s.size());
  const auto rate_of = [&](Index from, Index to, Index fabric) {
    const double measured = model.fabrics[fabric]->measured_bytes_per_s;
    const double rate = std::min(model.rate(from, fabric), model.rate(to, fabric));
    return measured > 0 ? std::min(rate, measured) : rate;
  };
  // With what its rounds send again, which is more over a slow wire.
  const auto seconds = [&](const Leaver& leaver, Index from, Index to, Index fabric) {
    const double rate = rate_of(from, to, fabric);
    const Forecast sends = forecast(Mode::kPreCopy, leaver.bytes, leaver.dirty_bytes_per_s, rate,
                                    model.request->settings);
    return (sends.bytes_running + sends.bytes_frozen) / rate;
  };
  for (const ModelUnderWay& trip : model.under_way) {
    const double s =
        static_cast<double>(trip.given->bytes_left) / rate_of(trip.from, trip.to, trip.fabric);
    out_s[trip.from * fabrics + trip.fabric] += s;
    in_s[trip.to * fabrics + trip.fabric] += s;
  }
  std::vector<Index> order(trips.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return model.leavers[trips[a].leaver].bytes > model.leavers[trips[b].leaver].bytes;
  });
  for (const Index index : order) {
    Trip& trip = trips[index];
    if (trip.target == kNone) continue;
    const Leaver& leaver = model.leavers[trip.leaver];
    const Index from = model.sources[leaver.source].node;
    const std::uint32_t usable = model.nodes[from].fabrics & model.nodes[trip.target].fabrics;
    double best_s = kInfinity;
    for (Index fabric = 0; fabric < fabrics; ++fabric) {
      if ((usable >> fabric & 1U) == 0) continue;
      const double begin_s =
          std::max(out_s[from * fabrics + fabric], in_s[trip.target * fabrics + fabric]);
      const double end_s = begin_s + seconds(leaver, from, trip.target, fabric);
      if (end_s >= best_s) continue;
      best_s = end_s;
      trip.fabric = fabric;
    }
    const double s = seconds(leaver, from, trip.target, trip.fabric);
    out_s[from * fabrics + trip.fabric] += s;
    in_s[trip.target * fabrics + trip.fabric] += s;
  }
}

namespace {

std::string mib(std::uint64_t bytes) {
  return std::to_string(bytes >> 20) + " MiB";
}

void append(std::string& list, const std::string& item) {
  if (!list.empty()) list += ", ";
  list += item;
}

std::string why_no_place(const Model& model, const Room& room, const Leaver& leaver) {
  unsigned candidates = 0;
  unsigned excluded = 0;
  std::string closed;  // the first of these, and why
  unsigned counts[8] = {};
  std::uint64_t largest = 0;
  for (Index node = 0; node < model.nodes.size(); ++node) {
    if (!model.nodes[node].excluded.empty()) {
      constexpr unsigned kNamed = 4;
      if (++excluded <= kNamed) {
        append(closed, model.nodes[node].given->name + " (" + model.nodes[node].excluded + ")");
      }
      if (excluded == kNamed + 1) append(closed, "...");
      continue;
    }
    ++candidates;
    ++counts[static_cast<std::size_t>(room.obstacle(leaver, node))];
    if (room.slots(node) > 0) largest = std::max(largest, room.memory(node));
  }
  const auto count = [&](Obstacle obstacle) { return counts[static_cast<std::size_t>(obstacle)]; };
  std::string why;
  const auto say = [&](Obstacle obstacle, const std::string& text) {
    if (count(obstacle) > 0) append(why, std::to_string(count(obstacle)) + " " + text);
  };
  say(Obstacle::kMemory, "without " + mib(leaver.given->memory_bytes) + " of memory (at most " +
                             mib(largest) + " left)");
  say(Obstacle::kSlots, "without a slot");
  say(Obstacle::kAddresses, "without a fabric on which it has an address");
  say(Obstacle::kNoWire, "without a fabric in common with its node");
  say(Obstacle::kHeld, "which it left a short time ago");
  say(Obstacle::kAllocation, "outside its job's allocation");
  say(Obstacle::kRanks, "with as many ranks of its job as allowed");
  if (candidates == 0) return "there is no healthy node to go to: " + closed;
  return "no place on " + std::to_string(candidates) +
         (candidates == 1 ? " healthy node: " : " healthy nodes: ") + why + "; " +
         std::to_string(excluded) + " take nothing: " + closed;
}

}  // namespace

std::vector<std::string> explain_unplaced(const Model& model, const std::vector<Index>& targets) {
  std::vector<std::string> why(targets.size());
  Room room(model);
  for (Index i = 0; i < targets.size(); ++i) {
    if (targets[i] != kNone) room.take(model.leavers[i], targets[i]);
  }
  // The same for all that ask for the same, but those that left a node lately.
  std::unordered_map<std::string, std::string> known;
  for (Index i = 0; i < targets.size(); ++i) {
    if (targets[i] != kNone) continue;
    const Leaver& leaver = model.leavers[i];
    const bool own = !leaver.held.empty() || !leaver.given->allocation.empty() ||
                     model.request->settings.ranks_per_node_max > 0;
    const Index from = model.sources[leaver.source].node;
    std::string key = std::to_string(leaver.given->memory_bytes) + "/" +
                      std::to_string(leaver.fabrics) + "/" +
                      std::to_string(model.nodes[from].fabrics);
    if (own) key += "/" + leaver.given->id;
    std::string& text = known[key];
    if (text.empty()) text = why_no_place(model, room, leaver);
    why[i] = text;
  }
  return why;
}

std::vector<std::string> explain_targets(const Model& model, const std::vector<Index>& targets) {
  std::vector<std::string> why(targets.size());
  Room room(model);
  for (Index i = 0; i < targets.size(); ++i) {
    if (targets[i] != kNone) room.take(model.leavers[i], targets[i]);
  }
  for (Index i = 0; i < targets.size(); ++i) {
    if (targets[i] == kNone) continue;
    const Leaver& leaver = model.leavers[i];
    const Node& target = *model.nodes[targets[i]].given;
    std::string& text = why[i];
    const unsigned others = room.ranks(leaver.job, targets[i]) - 1;
    if (!leaver.given->job.empty()) {
      text = others == 0 ? "no other rank of its job there"
                         : std::to_string(others) + " other ranks of its job there";
      text += ", ";
    }
    const double other_s = room.load_s(targets[i]) - room.seconds(leaver, targets[i]);
    text += other_s < 0.05 ? "nothing else comes" : seconds_text(other_s) + " of others come";
    text += ", " + mib(room.memory(targets[i])) + " left";
    if (!room.allocated(leaver, targets[i])) text += "; outside its job's allocation";
    if (target.health == Health::kProbation) text += "; on probation, as a last resort";
  }
  return why;
}

}  // namespace lifeboat::evacuation
