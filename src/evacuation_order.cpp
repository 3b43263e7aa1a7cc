#include "evacuation_order.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace lifeboat::evacuation {
namespace {

// Containers of one job on one node: saved together or not at all.
struct Group {
  std::vector<Index> trips;
  double cost_s = 0;
  double worth = 0;  // ranks saved per second
};

// `lost`: jobs that are lost whatever is done here.
std::vector<Group> groups_of(const Model& model, std::vector<Index> trips,
                             const std::vector<bool>& lost) {
  std::stable_sort(trips.begin(), trips.end(), [&](Index a, Index b) {
    return std::tuple(model.leavers[a].job, -model.leavers[a].bytes) <
           std::tuple(model.leavers[b].job, -model.leavers[b].bytes);
  });
  std::vector<Group> groups;
  for (const Index trip : trips) {
    const Leaver& leaver = model.leavers[trip];
    if (groups.empty() || model.leavers[groups.back().trips.back()].job != leaver.job) {
      groups.emplace_back();
    }
    groups.back().trips.push_back(trip);
    groups.back().cost_s += leaver.bytes / model.rate_of_all(model.sources[leaver.source].node) +
                            model.request->learned.freeze_s;
  }
  for (Group& group : groups) {
    const Index job = model.leavers[group.trips.front()].job;
    const double ranks = lost[job] ? 0 : model.ranks_to_save(job);
    group.worth = ranks / std::max(group.cost_s, 1e-9);
  }
  return groups;
}

std::vector<Index> most_saved_first(const Model& model, Index source, std::vector<Index> trips,
                                    const std::vector<bool>& lost) {
  std::vector<Group> groups = groups_of(model, std::move(trips), lost);
  std::stable_sort(groups.begin(), groups.end(),
                   [](const Group& a, const Group& b) { return a.worth > b.worth; });
  const double budget_s = model.sources[source].deadline_s / model.request->settings.safety_factor;
  std::vector<Index> order;
  std::vector<Index> last;
  double used_s = 0;
  for (const Group& group : groups) {
    const bool fits = used_s + group.cost_s <= budget_s;
    if (fits) used_s += group.cost_s;
    std::vector<Index>& part = fits ? order : last;
    part.insert(part.end(), group.trips.begin(), group.trips.end());
  }
  order.insert(order.end(), last.begin(), last.end());
  return order;
}

}  // namespace

const char* to_string(Order order) {
  return order == Order::kMostSaved ? "most ranks saved per second first" : "longest first";
}

std::vector<std::vector<Index>> queues(const Model& model, const std::vector<Trip>& trips,
                                       Order order) {
  std::vector<std::vector<Index>> out(model.sources.size());
  std::vector<bool> lost(model.job_ranks.size());
  for (const Trip& trip : trips) {
    const Leaver& leaver = model.leavers[trip.leaver];
    if (trip.target != kNone) {
      out[leaver.source].push_back(trip.leaver);
    } else if (model.sources[leaver.source].given->reason == Reason::kFailing) {
      lost[leaver.job] = true;
    }
  }
  for (Index source = 0; source < out.size(); ++source) {
    if (order == Order::kMostSaved) {
      out[source] = most_saved_first(model, source, std::move(out[source]), lost);
      continue;
    }
    std::stable_sort(out[source].begin(), out[source].end(), [&](Index a, Index b) {
      return model.leavers[a].bytes > model.leavers[b].bytes;
    });
  }
  return out;
}

}  // namespace lifeboat::evacuation
