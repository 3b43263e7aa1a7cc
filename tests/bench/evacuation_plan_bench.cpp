// How long the planner takes for a large cluster, and how its plans compare with simpler rules on
// the same requests, played by the same model of time:
//
//   first-fit  each container, as listed, to the first node with room, over the first fabric
//   fewest     the largest first, to the node that got the fewest, over the fastest fabric
//
// Both start as many at once as the limits allow, or get the best of 1, 2 and 4 per wire ("at its
// best"). The bound is what the busiest wires need if nothing ever waits: no plan can be sooner.
// Not a test: run it by hand when the machine is quiet.
//
//   build/dev/bin/plan_bench [--seeds N] [--shape NAME] [--nodes N]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "evacuation_placement.hpp"
#include "evacuation_plan.hpp"

namespace {

using namespace lifeboat::evacuation;

constexpr double kGb = 1e9;
constexpr std::uint64_t kGiB = 1ULL << 30;

struct Shape {
  const char* name;
  unsigned nodes = 10'000;
  unsigned containers = 100'000;
  unsigned failing = 200;
  double spare_share = 0.5;  // of the other nodes: have room
  bool skewed = false;       // sizes: a few are very large
  bool mixed = false;        // a second fabric, on half of the nodes, and slower wires on some
  bool fits_barely = false;  // the room is a tenth more than what leaves
};

constexpr Shape kShapes[] = {
    {.name = "roomy"},
    {.name = "few spares", .spare_share = 0.03},
    {.name = "too little room", .spare_share = 0.015},
    {.name = "tight memory", .spare_share = 0.04, .fits_barely = true},
    {.name = "skewed sizes", .spare_share = 0.1, .skewed = true},
    {.name = "mixed fabrics", .spare_share = 0.1, .mixed = true},
    {.name = "all of it", .spare_share = 0.05, .skewed = true, .mixed = true, .fits_barely = true},
    {.name = "1000 failing", .failing = 1'000, .spare_share = 0.5},
    {.name = "1000, few spares",
     .failing = 1'000,
     .spare_share = 0.15,
     .skewed = true,
     .mixed = true},
};

Shape scaled(Shape shape, unsigned nodes) {
  const auto part = [&](unsigned of_shape) {
    return static_cast<unsigned>(std::max<std::uint64_t>(1, std::uint64_t{of_shape} * nodes / shape.nodes));
  };
  shape.containers = part(shape.containers);
  shape.failing = part(shape.failing);
  shape.nodes = nodes;
  return shape;
}

std::string name(const char* prefix, unsigned number) {
  char text[32];
  std::snprintf(text, sizeof text, "%s%05u", prefix, number);
  return text;
}

void add_nodes(const Shape& shape, std::mt19937_64& random, Request& request) {
  request.fabrics = {{.name = "eth"}, {.name = "ib"}};
  std::bernoulli_distribution spare(shape.spare_share);
  for (unsigned i = 0; i < shape.nodes; ++i) {
    Node node;
    node.name = name("n", i);
    node.domain = name("rack", i / 40);
    node.preference = 1;
    node.fabrics["eth"] = shape.mixed && random() % 4 == 0 ? 0.31 * kGb : 1.25 * kGb;
    if (shape.mixed && random() % 2 == 0) node.fabrics["ib"] = 5 * kGb;
    if (spare(random)) {
      node.memory_free_bytes = (32 + random() % 96) * kGiB;
      node.slots_free = 16;
    }
    request.nodes.push_back(std::move(node));
  }
}

void add_containers(const Shape& shape, std::mt19937_64& random, Request& request) {
  std::lognormal_distribution<double> skewed(0.5, 1.2);
  std::uniform_int_distribution<std::uint64_t> even(4, 12);
  unsigned job = 0;
  unsigned rest_of_job = 0;
  for (unsigned i = 0; i < shape.containers; ++i) {
    if (rest_of_job == 0) {
      ++job;
      rest_of_job = 1U << random() % 8;
    }
    --rest_of_job;
    Container container;
    container.id = name("c", i);
    container.job = name("job", job);
    container.node = request.nodes[i * std::uint64_t{shape.nodes} / shape.containers].name;
    const double gib =
        shape.skewed ? std::min(28.0, 1 + 2 * skewed(random)) : static_cast<double>(even(random));
    container.memory_bytes = static_cast<std::uint64_t>(gib * kGiB);
    container.resident_bytes = container.memory_bytes * (60 + random() % 40) / 100;
    container.dirty_bytes_per_s = static_cast<double>(20 + random() % 400) * 1e6;
    request.containers.push_back(std::move(container));
  }
}

void add_failing(const Shape& shape, std::mt19937_64& random, Request& request) {
  std::vector<unsigned> order(shape.nodes);
  std::iota(order.begin(), order.end(), 0U);
  std::shuffle(order.begin(), order.end(), random);
  std::map<std::string, bool> failing;
  for (unsigned i = 0; i < shape.failing; ++i) {
    Node& node = request.nodes[order[i]];
    node.health = Health::kDegraded;
    failing[node.name] = true;
    // Long enough that the time for it changes nothing.
    request.evacuations.push_back({node.name, Reason::kFailing, 1e6});
  }
  if (!shape.fits_barely) return;
  double leaving = 0;
  double free = 0;
  for (const Container& c : request.containers) {
    if (failing.contains(c.node)) leaving += static_cast<double>(c.memory_bytes);
  }
  for (const Node& node : request.nodes) {
    if (node.health == Health::kUp) free += static_cast<double>(node.memory_free_bytes);
  }
  const double scale = 1.1 * leaving / free;
  for (Node& node : request.nodes) {
    node.memory_free_bytes =
        static_cast<std::uint64_t>(scale * static_cast<double>(node.memory_free_bytes));
  }
}

Request make_request(const Shape& shape, unsigned seed) {
  std::mt19937_64 random(seed);
  Request request;
  add_nodes(shape, random, request);
  add_containers(shape, random, request);
  add_failing(shape, random, request);
  return request;
}

// -------------------------------------------------------------------------------- simpler rules

struct Rule {
  bool largest_first = false;
  bool fewest = false;
  bool fastest_fabric = false;
};

constexpr Rule kFirstFit;
constexpr Rule kFewest{.largest_first = true, .fewest = true, .fastest_fabric = true};

bool fits(const Model& model, const Leaver& leaver, Index node, std::uint64_t memory,
          unsigned slots) {
  const std::uint32_t fabrics = model.nodes[node].fabrics;
  return model.nodes[node].excluded.empty() && slots > 0 && memory >= leaver.given->memory_bytes &&
         (fabrics & model.nodes[model.sources[leaver.source].node].fabrics) != 0;
}

std::vector<Trip> simple_trips(const Model& model, const std::vector<Index>& order,
                               const Rule& rule) {
  const auto nodes = static_cast<Index>(model.nodes.size());
  std::vector<std::uint64_t> memory(nodes);
  std::vector<unsigned> slots(nodes);
  std::vector<unsigned> given(nodes);
  for (Index n = 0; n < nodes; ++n) {
    memory[n] = model.nodes[n].memory_free_bytes;
    slots[n] = model.nodes[n].slots_free;
  }
  std::vector<Trip> trips(order.size());
  for (const Index i : order) {
    const Leaver& leaver = model.leavers[i];
    Trip& trip = trips[i];
    trip.leaver = i;
    for (Index n = 0; n < nodes; ++n) {
      if (!fits(model, leaver, n, memory[n], slots[n])) continue;
      if (trip.target != kNone &&
          (given[n] > given[trip.target] ||
           (given[n] == given[trip.target] && memory[n] <= memory[trip.target]))) {
        continue;
      }
      trip.target = n;
      if (!rule.fewest) break;
    }
    if (trip.target == kNone) continue;
    memory[trip.target] -= leaver.given->memory_bytes;
    --slots[trip.target];
    ++given[trip.target];
    const Index from = model.sources[leaver.source].node;
    double best = 0;
    for (Index f = 0; f < model.fabrics.size(); ++f) {
      const double rate = std::min(model.rate(from, f), model.rate(trip.target, f));
      if (rate <= 0 || (best > 0 && (!rule.fastest_fabric || rate <= best))) continue;
      best = rate;
      trip.fabric = f;
    }
  }
  return trips;
}

struct Outcome {
  double end_s = 0;
  double sum_s = 0;
  unsigned unplaced = 0;
  unsigned lost = 0;    // ranks, anywhere, of jobs of which one found no place
  unsigned saved = 0;   // ranks of jobs that are away whole before their nodes fail
  double together = 0;  // pairs of ranks of one job on a target, per container that moved
};

Outcome outcome_of(const Model& model, const std::vector<Trip>& trips, const Timetable& times) {
  Outcome out;
  out.end_s = times.end_s;
  out.sum_s = times.sum_s;
  JobCounts ranks = model.on_node;
  std::vector<bool> broken(model.job_ranks.size());
  unsigned moved = 0;
  for (const Trip& trip : trips) {
    if (trip.target == kNone) {
      ++out.unplaced;
      broken[model.leavers[trip.leaver].job] = true;
      continue;
    }
    ++moved;
    out.together += ranks.get(model.leavers[trip.leaver].job, trip.target);
    ranks.add(model.leavers[trip.leaver].job, trip.target);
  }
  out.together /= std::max(moved, 1U);
  std::vector<bool> leaves(broken.size());
  std::vector<bool> late(broken);
  for (const Trip& trip : trips) {
    const Leaver& leaver = model.leavers[trip.leaver];
    leaves[leaver.job] = true;
    if (times.trips[trip.leaver].end_s > model.sources[leaver.source].deadline_s)
      late[leaver.job] = true;
  }
  for (Index job = 0; job < broken.size(); ++job) {
    if (broken[job]) out.lost += model.ranks_to_save(job);
    if (leaves[job] && !late[job]) out.saved += model.ranks_to_save(job);
  }
  return out;
}

Outcome play_rule(const Model& model, const Rule& rule, unsigned streams) {
  std::vector<Index> order(model.leavers.size());
  std::iota(order.begin(), order.end(), Index{0});
  if (rule.largest_first) {
    std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
      return model.leavers[a].given->memory_bytes > model.leavers[b].given->memory_bytes;
    });
  }
  Schedule schedule;
  schedule.trips = simple_trips(model, order, rule);
  schedule.queues.resize(model.sources.size());
  for (const Index i : order) {
    if (schedule.trips[i].target != kNone) schedule.queues[model.leavers[i].source].push_back(i);
  }
  schedule.release_s.resize(model.sources.size());
  schedule.streams_per_wire = streams;
  return outcome_of(model, schedule.trips, play(model, schedule));
}

Outcome best_of_rule(const Model& model, const Rule& rule) {
  Outcome best = play_rule(model, rule, 1);
  for (const unsigned streams : {2U, 4U}) {
    const Outcome other = play_rule(model, rule, streams);
    if (other.end_s < best.end_s) best = other;
  }
  return best;
}

Outcome outcome_of(const Model& model, const Plan& plan) {
  std::map<std::string, Index> nodes;
  for (Index n = 0; n < model.nodes.size(); ++n) nodes[model.nodes[n].given->name] = n;
  std::map<std::string, const Step*> steps;
  for (const Step& step : plan.steps) steps[step.container] = &step;
  std::vector<Trip> trips;
  Timetable times;
  times.end_s = plan.end_s;
  for (Index i = 0; i < model.leavers.size(); ++i) {
    const auto at = steps.find(model.leavers[i].given->id);
    trips.push_back({i, at == steps.end() ? kNone : nodes.at(at->second->to), 0});
    times.trips.emplace_back();
    if (at == steps.end()) continue;
    times.trips.back().end_s = at->second->start_s + at->second->duration_s;
    times.sum_s += times.trips.back().end_s;
  }
  return outcome_of(model, trips, times);
}

// Every wire of a source always busy, each container sent once.
double bound_s(const Model& model) {
  std::vector<double> bytes(model.sources.size());
  for (const Leaver& leaver : model.leavers) bytes[leaver.source] += leaver.bytes;
  double bound = 0;
  for (Index s = 0; s < bytes.size(); ++s) {
    bound = std::max(bound, bytes[s] / model.rate_of_all(model.sources[s].node));
  }
  return bound;
}

// --------------------------------------------------------------------------------------- report

struct Spread {
  std::vector<double> values;
  void print(const char* label) {
    std::sort(values.begin(), values.end());
    std::printf("  %-42s %9.3f %9.3f %9.3f\n", label, values.front(), values[values.size() / 2],
                values.back());
  }
};

// Processor time: what it takes when the machine is its own.
double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

void measure(const Shape& shape, unsigned seeds) {
  std::map<std::string, Spread> rows;
  const auto row = [&](const char* label, double value) { rows[label].values.push_back(value); };
  for (unsigned seed = 1; seed <= seeds; ++seed) {
    Request request = make_request(shape, seed);
    const double begin_s = cpu_seconds();
    const auto plan = plan_evacuation(request);
    row("1  planning, s of one processor", cpu_seconds() - begin_s);
    const auto model = make_model(request);
    if (!plan || !model) std::abort();
    const Outcome ours = outcome_of(*model, *plan);
    const Outcome first = play_rule(*model, kFirstFit, request.limits.leaving_per_node);
    const Outcome first_best = best_of_rule(*model, kFirstFit);
    const Outcome fewest = best_of_rule(*model, kFewest);
    row("2a all off after, s", ours.end_s);
    row("2b / bound", ours.end_s / bound_s(*model));
    row("3a first-fit / plan, end", first.end_s / ours.end_s);
    row("3b first-fit at its best / plan, end", first_best.end_s / ours.end_s);
    row("3c fewest at its best / plan, end", fewest.end_s / ours.end_s);
    row("4a first-fit / plan, sum of ends", first.sum_s / ours.sum_s);
    row("4b first-fit at its best / plan, sum", first_best.sum_s / ours.sum_s);
    row("4c fewest at its best / plan, sum", fewest.sum_s / ours.sum_s);
    row("5a no place: plan", ours.unplaced);
    row("5b no place: first-fit", first.unplaced);
    row("5c no place: fewest", fewest.unplaced);
    row("6a ranks lost for want of it: plan", ours.lost);
    row("6b ranks lost for want of it: first-fit", first.lost);
    row("6c ranks lost for want of it: fewest", fewest.lost);
    row("7a others of its job there: plan", ours.together);
    row("7b others of its job there: first-fit", first.together);
    row("7c others of its job there: fewest", fewest.together);
    // The same with too little time.
    for (Evacuation& evacuation : request.evacuations) evacuation.lead_s = 0.4 * ours.end_s;
    const auto hurried = plan_evacuation(request);
    const auto hurried_model = make_model(request);
    if (!hurried || !hurried_model) std::abort();
    const double saved = std::max(1U, outcome_of(*hurried_model, *hurried).saved);
    row("8a in 0.4 of it, saved: plan, ranks", saved);
    row("8b first-fit / plan", play_rule(*hurried_model, kFirstFit, 4).saved / saved);
    row("8c fewest at its best / plan", best_of_rule(*hurried_model, kFewest).saved / saved);
  }
  std::printf("%s: %u nodes, %u containers, %u failing\n  %-42s %9s %9s %9s\n", shape.name,
              shape.nodes, shape.containers, shape.failing, "", "min", "median", "max");
  for (auto& [label, spread] : rows) spread.print(label.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Measures the evacuation planner"};
  unsigned seeds = 5;
  std::string only;
  unsigned nodes = 0;
  app.add_option("--seeds", seeds, "requests of each shape")->check(CLI::Range(1, 1000));
  app.add_option("--shape", only, "this one only");
  app.add_option("--nodes", nodes, "instead of 10,000, with as many containers and failing ones on each")
      ->check(CLI::Range(1, 100'000));
  CLI11_PARSE(app, argc, argv);
  for (const Shape& shape : kShapes) {
    if (only.empty() || only == shape.name) measure(nodes == 0 ? shape : scaled(shape, nodes), seeds);
  }
}
