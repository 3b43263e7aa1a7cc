#include "evacuation_plan.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "evacuation_order.hpp"
#include "evacuation_placement.hpp"

namespace lifeboat::evacuation {
namespace {

// Ways that end at nearly the same time are told apart by the sum of all ends.
constexpr double kSameEnd = 1.01;
// How often those that find no place with the rest of their job are put last, for others to have
// it.
constexpr int kUrgentTries = 4;
// How often a window that would end too late is moved to begin earlier.
constexpr int kWindowTries = 3;

// What a schedule is worth: more saved, then sooner empty.
struct Worth {
  unsigned saved = 0;    // ranks of jobs that get off failing nodes whole, in time
  unsigned in_time = 0;  // containers off failing nodes in time
  double end_s = 0;
  double sum_s = 0;
};

// One way to do it.
struct Way {
  Order order = Order::kMostSaved;
  Schedule schedule;
  Timetable times;
  Worth worth;
};

class Planner {
 public:
  explicit Planner(const Model& model) : model_(model), settings_(model.request->settings) {}

  Plan plan() {
    place();
    choose_way();
    delay_windows();
    Plan plan;
    plan.cancel = model_.cancel;
    plan.streams_per_wire = way_.schedule.streams_per_wire;
    plan.end_s = way_.times.end_s;
    plan.why = why_;
    count_jobs(way_.times, plan.jobs, plan.jobs_saved);
    tell_steps(plan);
    tell_unplaced(plan);
    tell_nodes(plan);
    return plan;
  }

 private:
  [[nodiscard]] bool failing(Index source) const {
    return model_.sources[source].given->reason == Reason::kFailing;
  }
  [[nodiscard]] bool in_time(const Timetable& times, Index trip) const {
    return trips_[trip].target != kNone &&
           times.trips[trip].end_s <= model_.sources[model_.leavers[trip].source].deadline_s;
  }

  // -------------------------------------------------------------------------------- targets

  // The large ones choose first and the load is balanced. If that leaves some without a place, then
  // so that holes stay large; if there is not enough at all, for the most urgent, and rather for
  // whole jobs than for parts of many.
  void place() {
    std::vector<Index> large(model_.leavers.size());
    std::iota(large.begin(), large.end(), Index{0});
    std::stable_sort(large.begin(), large.end(), [&](Index a, Index b) {
      return model_.leavers[a].given->memory_bytes > model_.leavers[b].given->memory_bytes;
    });
    set_targets(choose_targets(model_, large, Fit::kBalanced));
    auto best = left_behind();
    if (std::get<2>(best) == 0) return;
    std::vector<Trip> kept = trips_;
    const auto keep_if_better = [&] {
      const auto behind = left_behind();
      if (behind >= best) return false;
      best = behind;
      kept = trips_;
      return true;
    };
    set_targets(choose_targets(model_, large, Fit::kTight));
    keep_if_better();
    std::vector<Index> urgent = urgent_first();
    for (int tries = 0; tries < kUrgentTries && std::get<2>(best) > 0; ++tries) {
      set_targets(choose_targets(model_, urgent, Fit::kTight));
      if (!keep_if_better() && tries > 0) break;
      const std::vector<bool> broken = broken_jobs();
      std::stable_partition(urgent.begin(), urgent.end(),
                            [&](Index i) { return !broken[model_.leavers[i].job]; });
    }
    trips_ = std::move(kept);
  }

  // By the time that is left, and then what saves most ranks for the room it takes.
  [[nodiscard]] std::vector<Index> urgent_first() const {
    std::vector<double> memory(model_.job_ranks.size());
    for (const Leaver& leaver : model_.leavers) {
      memory[leaver.job] += static_cast<double>(leaver.given->memory_bytes);
    }
    const auto key = [&](Index index) {
      const Leaver& leaver = model_.leavers[index];
      const Source& source = model_.sources[leaver.source];
      const double worth = model_.ranks_to_save(leaver.job) / std::max(memory[leaver.job], 1.0);
      return std::tuple(source.given->reason, source.deadline_s, -worth, leaver.job, -leaver.bytes);
    };
    std::vector<Index> order(model_.leavers.size());
    std::iota(order.begin(), order.end(), Index{0});
    std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) { return key(a) < key(b); });
    return order;
  }

  void set_targets(const std::vector<Index>& targets) {
    trips_.resize(targets.size());
    for (Index i = 0; i < targets.size(); ++i) trips_[i] = {i, targets[i], 0};
    choose_fabrics(model_, trips_);
  }

  // Jobs that lose a rank on a failing node for want of a place.
  [[nodiscard]] std::vector<bool> broken_jobs() const {
    std::vector<bool> broken(model_.job_ranks.size());
    for (const Trip& trip : trips_) {
      const Leaver& leaver = model_.leavers[trip.leaver];
      if (trip.target == kNone && failing(leaver.source)) broken[leaver.job] = true;
    }
    return broken;
  }

  // For want of a place: ranks of broken jobs, containers left on failing nodes, and on all.
  [[nodiscard]] std::tuple<unsigned, unsigned, unsigned> left_behind() const {
    unsigned ranks = 0;
    unsigned on_failing = 0;
    unsigned all = 0;
    for (const Trip& trip : trips_) {
      if (trip.target != kNone) continue;
      ++all;
      if (failing(model_.leavers[trip.leaver].source)) ++on_failing;
    }
    const std::vector<bool> broken = broken_jobs();
    for (Index job = 0; job < broken.size(); ++job) {
      if (broken[job]) ranks += model_.ranks_to_save(job);
    }
    return {ranks, on_failing, all};
  }

  // ------------------------------------------------------------------------------------ ways

  void count_jobs(const Timetable& times, unsigned& jobs, unsigned& saved,
                  unsigned* ranks_saved = nullptr) const {
    std::vector<unsigned> leaving(model_.job_ranks.size());
    std::vector<unsigned> away(model_.job_ranks.size());
    for (Index i = 0; i < trips_.size(); ++i) {
      const Leaver& leaver = model_.leavers[i];
      if (!failing(leaver.source)) continue;
      ++leaving[leaver.job];
      if (in_time(times, i)) ++away[leaver.job];
    }
    jobs = saved = 0;
    for (Index job = 0; job < leaving.size(); ++job) {
      if (leaving[job] == 0) continue;
      ++jobs;
      if (model_.job_lost[job] || away[job] < leaving[job]) continue;
      ++saved;
      if (ranks_saved != nullptr) *ranks_saved += model_.ranks_to_save(job);
    }
  }

  [[nodiscard]] Worth worth_of(const Timetable& times) const {
    Worth worth;
    unsigned jobs = 0;
    unsigned saved = 0;
    count_jobs(times, jobs, saved, &worth.saved);
    for (Index i = 0; i < trips_.size(); ++i) {
      if (failing(model_.leavers[i].source) && in_time(times, i)) ++worth.in_time;
    }
    worth.end_s = times.end_s;
    worth.sum_s = times.sum_s;
    return worth;
  }

  // Plays every order with 1, 2, 4 ... migrations at once per wire and keeps the best.
  void choose_way() {
    std::vector<Way> ways;
    for (const Order order : {Order::kMostSaved, Order::kLongest}) {
      const auto order_queues = queues(model_, trips_, order);
      const unsigned most = model_.request->limits.leaving_per_node;
      for (unsigned streams = 1;; streams = std::min(2 * streams, most)) {
        Way way;
        way.order = order;
        way.schedule.trips = trips_;
        way.schedule.queues = order_queues;
        way.schedule.release_s.resize(model_.sources.size());
        way.schedule.streams_per_wire = streams;
        way.times = play(model_, way.schedule);
        way.worth = worth_of(way.times);
        ways.push_back(std::move(way));
        if (streams == most) break;
      }
    }
    double soonest = std::numeric_limits<double>::infinity();
    double latest = 0;
    const Worth* safest = &ways.front().worth;
    const auto saves = [](const Worth& worth) { return std::tuple(worth.saved, worth.in_time); };
    for (const Way& way : ways) {
      if (saves(way.worth) > saves(*safest)) safest = &way.worth;
      latest = std::max(latest, way.worth.end_s);
    }
    const auto enough = saves(*safest);
    for (const Way& way : ways) {
      if (saves(way.worth) == enough) soonest = std::min(soonest, way.worth.end_s);
    }
    Way* best = nullptr;
    for (Way& way : ways) {
      if (saves(way.worth) != enough || way.worth.end_s > soonest * kSameEnd) continue;
      if (best == nullptr || way.worth.sum_s < best->worth.sum_s) best = &way;
    }
    why_ = std::string(to_string(best->order)) + ", " +
           std::to_string(best->schedule.streams_per_wire) +
           " at once per wire: all is done after " + seconds_text(best->worth.end_s) + "; of " +
           std::to_string(ways.size()) + " ways that were played the slowest takes " +
           seconds_text(latest);
    way_ = std::move(*best);
  }

  // When the last one of each source is away.
  [[nodiscard]] std::vector<double> ends() const {
    std::vector<double> end_s(model_.sources.size());
    for (Index i = 0; i < trips_.size(); ++i) {
      double& end = end_s[model_.leavers[i].source];
      end = std::max(end, way_.times.trips[i].end_s);
    }
    return end_s;
  }

  // --------------------------------------------------------------------------------- windows

  // Lets each node with a window begin as late as is safe, and earlier if it then ends too late
  // because others are busy at that time.
  void delay_windows() {
    std::vector<double>& release_s = way_.schedule.release_s;
    bool any = false;
    std::vector<double> end_s = ends();
    for (Index s = 0; s < model_.sources.size(); ++s) {
      if (failing(s) || !model_.sources[s].given->lead_s) continue;
      const double start_s = model_.sources[s].deadline_s - settings_.safety_factor * end_s[s];
      release_s[s] = std::max(0.0, start_s);
      any = any || release_s[s] > 0;
    }
    for (int tries = 0; any; ++tries) {
      way_.times = play(model_, way_.schedule);
      any = false;
      end_s = ends();
      for (Index s = 0; s < model_.sources.size(); ++s) {
        const double needed_s = settings_.safety_factor * (end_s[s] - release_s[s]);
        const double late_s = release_s[s] + needed_s - model_.sources[s].deadline_s;
        if (release_s[s] <= 0 || late_s <= 1e-6) continue;
        release_s[s] = tries < kWindowTries ? std::max(0.0, release_s[s] - late_s) : 0;
        any = true;
      }
    }
  }

  // ------------------------------------------------------------------------------------ tell

  void tell_steps(Plan& plan) {
    std::vector<Index> order;
    for (const Trip& trip : trips_) {
      if (trip.target != kNone) order.push_back(trip.leaver);
    }
    std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
      return std::tuple(way_.times.trips[a].start_s, model_.leavers[a].source) <
             std::tuple(way_.times.trips[b].start_s, model_.leavers[b].source);
    });
    std::vector<unsigned> number(trips_.size());
    std::vector<Index> targets;
    for (const Trip& trip : trips_) targets.push_back(trip.target);
    const std::vector<std::string> target_why = explain_targets(model_, targets);
    std::vector<unsigned> left(model_.sources.size());
    const std::vector<double> last_end_s = ends();
    for (const Index index : order) {
      const TripTimes& times = way_.times.trips[index];
      const Leaver& leaver = model_.leavers[index];
      Step step;
      step.container = leaver.given->id;
      step.from = leaver.given->node;
      step.to = model_.nodes[trips_[index].target].given->name;
      step.fabric = model_.fabrics[trips_[index].fabric]->name;
      step.mode = times.mode;
      step.start_s = times.start_s;
      step.duration_s = times.end_s - times.start_s;
      step.downtime_s = times.downtime_s;
      step.latest_end_s = model_.sources[leaver.source].deadline_s - (last_end_s[leaver.source] - times.end_s);
      if (times.after != kNone) {
        step.after = number[times.after];
        step.wave = plan.steps[step.after - 1].wave + 1;
      }
      step.why = why_step(index, ++left[leaver.source]) + "; " + step.to + ": " + target_why[index];
      number[index] = static_cast<unsigned>(plan.steps.size() + 1);
      plan.steps.push_back(std::move(step));
    }
  }

  [[nodiscard]] std::string why_step(Index index, unsigned place) const {
    const Leaver& leaver = model_.leavers[index];
    const Source& source = model_.sources[leaver.source];
    std::string why = std::to_string(place) + " of " +
                      std::to_string(way_.schedule.queues[leaver.source].size()) + " of its node";
    if (failing(leaver.source) && !in_time(way_.times, index)) {
      why += ", too late if the node fails in " + seconds_text(source.deadline_s);
    }
    const std::uint32_t usable =
        model_.nodes[source.node].fabrics & model_.nodes[trips_[index].target].fabrics;
    const bool choice = (usable & (usable - 1)) != 0;
    why += choice ? "; through first over " : "; only fabric in common ";
    why += model_.fabrics[trips_[index].fabric]->name;
    switch (way_.times.trips[index].mode) {
      case Mode::kPreCopy:
        break;
      case Mode::kStopAndCopy:
        why += "; no time for rounds while it runs";
        break;
      case Mode::kPostCopy:
        why += "; the window is too short for rounds, its node is healthy";
        break;
      case Mode::kHybrid:
        why += "; it writes too fast for rounds, its node is healthy";
        break;
    }
    return why;
  }

  void tell_unplaced(Plan& plan) const {
    plan.unplaced = model_.staying;
    std::vector<Index> targets;
    for (const Trip& trip : trips_) targets.push_back(trip.target);
    std::vector<std::string> why = explain_unplaced(model_, targets);
    for (Index i = 0; i < trips_.size(); ++i) {
      const Container& container = *model_.leavers[i].given;
      if (targets[i] == kNone)
        plan.unplaced.push_back({container.id, container.node, std::move(why[i])});
    }
    std::sort(plan.unplaced.begin(), plan.unplaced.end(),
              [](const Unplaced& a, const Unplaced& b) { return a.container < b.container; });
  }

  void tell_nodes(Plan& plan) const {
    for (const Source& source : model_.sources) {
      NodeForecast node;
      node.node = source.given->node;
      node.reason = source.given->reason;
      node.lead_s = source.given->lead_s;
      plan.nodes.push_back(std::move(node));
    }
    std::vector<bool> started(plan.nodes.size());
    const auto add = [&](Index s, const TripTimes& times) {
      NodeForecast& node = plan.nodes[s];
      node.start_s = started[s] ? std::min(node.start_s, times.start_s) : times.start_s;
      started[s] = true;
      node.end_s = std::max(node.end_s, times.end_s);
      ++node.leaving;
      if (times.end_s <= model_.sources[s].deadline_s) ++node.in_time;
    };
    for (Index i = 0; i < trips_.size(); ++i) {
      if (trips_[i].target != kNone) add(model_.leavers[i].source, way_.times.trips[i]);
    }
    for (Index i = 0; i < model_.under_way.size(); ++i) {
      const Index source = model_.nodes[model_.under_way[i].from].source;
      if (source != kNone) add(source, way_.times.trips[trips_.size() + i]);
    }
    for (const Unplaced& unplaced : plan.unplaced) {
      for (NodeForecast& node : plan.nodes) {
        if (node.node != unplaced.node) continue;
        ++node.leaving;
        ++node.unplaced;
      }
    }
    for (Index s = 0; s < plan.nodes.size(); ++s) {
      NodeForecast& node = plan.nodes[s];
      const double end_s = node.start_s + settings_.safety_factor * (node.end_s - node.start_s);
      node.fits = node.unplaced == 0 && end_s <= model_.sources[s].deadline_s + 1e-6;
      node.latest_start_s = way_.schedule.release_s[s];
    }
  }

  const Model& model_;
  const Settings& settings_;
  std::vector<Trip> trips_;  // one per leaver
  Way way_;
  std::string why_;
};

}  // namespace

Result<Plan> plan_evacuation(const Request& request) {
  TRY(const Model model, make_model(request));
  return Planner(model).plan();
}

}  // namespace lifeboat::evacuation
