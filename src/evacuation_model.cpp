#include "evacuation_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <tuple>

namespace lifeboat::evacuation {

const char* to_string(Health health) {
  switch (health) {
    case Health::kUp:
      return "up";
    case Health::kProbation:
      return "on probation";
    case Health::kSuspect:
      return "suspect";
    case Health::kDegraded:
      return "degraded";
    case Health::kDown:
      return "down";
    case Health::kMaintenance:
      return "in maintenance";
  }
  return "unknown";
}

const char* to_string(Mode mode) {
  switch (mode) {
    case Mode::kPreCopy:
      return "pre-copy";
    case Mode::kStopAndCopy:
      return "stop-and-copy";
    case Mode::kPostCopy:
      return "post-copy";
    case Mode::kHybrid:
      return "hybrid";
  }
  return "unknown";
}

const char* to_string(Reason reason) {
  switch (reason) {
    case Reason::kFailing:
      return "failing";
    case Reason::kMaintenance:
      return "maintenance";
  }
  return "unknown";
}

namespace {

using Names = std::unordered_map<std::string_view, Index>;

bool positive(double value) {
  return std::isfinite(value) && value > 0;
}
bool not_negative(double value) {
  return std::isfinite(value) && value >= 0;
}

// In the order of names; kInvalid when one is there twice.
template <class T, class Name>
Result<std::vector<const T*>> sorted(const std::vector<T>& items, Name name, const char* kind) {
  std::vector<const T*> out;
  out.reserve(items.size());
  for (const T& item : items) out.push_back(&item);
  std::sort(out.begin(), out.end(), [&](const T* a, const T* b) { return name(*a) < name(*b); });
  for (std::size_t i = 1; i < out.size(); ++i) {
    if (name(*out[i - 1]) == name(*out[i])) {
      return fail(Errc::kInvalid, std::string(kind) + " " + name(*out[i]) + " is named twice");
    }
  }
  return out;
}

Result<Index> find(const Names& names, const std::string& name, const std::string& who) {
  const auto at = names.find(name);
  if (at == names.end()) return fail(Errc::kInvalid, who + ": '" + name + "' is not known");
  return at->second;
}

// Builds the model in the order in which its parts need each other.
class Builder {
 public:
  explicit Builder(const Request& request) : request_(request) { model_.request = &request; }

  Result<Model> build() {
    CHECK_OK(check_settings());
    CHECK_OK(add_fabrics());
    CHECK_OK(add_nodes());
    TRY(containers_,
        sorted(
            request_.containers, [](const Container& c) { return c.id; }, "container"));
    CHECK_OK(find_homes());
    CHECK_OK(add_sources());
    exclude_bad_targets();
    CHECK_OK(add_under_way());
    CHECK_OK(add_past());
    CHECK_OK(add_leavers());
    count_ranks();
    return std::move(model_);
  }

 private:
  Status check_settings() const {
    const Settings& s = request_.settings;
    const Learned& l = request_.learned;
    if (!std::isfinite(s.safety_factor) || s.safety_factor < 1) {
      return fail(Errc::kInvalid, "the safety factor must be 1 or more");
    }
    if (!positive(s.unknown_lead_s))
      return fail(Errc::kInvalid, "the lead assumed must be above 0 s");
    for (const double value :
         {s.downtime_budget_s, s.hold_s, s.settle_s, s.same_job_s, s.same_domain_s, s.preference_s,
          l.setup_s, l.freeze_s, l.dirty_bytes_per_s}) {
      if (!not_negative(value)) return fail(Errc::kInvalid, "a time, cost or rate below 0");
    }
    const Limits& limits = request_.limits;
    if (limits.leaving_per_node == 0 || limits.arriving_per_node == 0 ||
        limits.frozen_per_node == 0) {
      return fail(Errc::kInvalid, "a limit per node of 0 lets nothing move");
    }
    return {};
  }

  Status add_fabrics() {
    if (request_.fabrics.size() > kFabricsMax) {
      return fail(Errc::kInvalid, "more than " + std::to_string(kFabricsMax) + " fabrics");
    }
    TRY(model_.fabrics, sorted(
                            request_.fabrics, [](const Fabric& f) { return f.name; }, "fabric"));
    for (Index i = 0; i < model_.fabrics.size(); ++i) {
      const Fabric& fabric = *model_.fabrics[i];
      if (!not_negative(fabric.total_bytes_per_s) || !not_negative(fabric.measured_bytes_per_s)) {
        return fail(Errc::kInvalid, "fabric " + fabric.name + ": a rate below 0");
      }
      fabric_names_[fabric.name] = i;
    }
    return {};
  }

  Status add_nodes() {
    TRY(const auto nodes, sorted(
                              request_.nodes, [](const Node& n) { return n.name; }, "node"));
    model_.nodes.resize(nodes.size());
    model_.rates.assign(nodes.size() * model_.fabrics.size(), 0);
    Names domains;
    for (Index i = 0; i < nodes.size(); ++i) {
      ModelNode& node = model_.nodes[i];
      node.given = nodes[i];
      node.memory_free_bytes = node.given->memory_free_bytes;
      node.slots_free = node.given->slots_free;
      for (const auto& [name, rate] : node.given->fabrics) {
        TRY(const Index fabric, find(fabric_names_, name, "fabric of node " + node.given->name));
        if (!positive(rate)) {
          return fail(Errc::kInvalid, "node " + node.given->name + ": no rate on fabric " + name);
        }
        node.fabrics |= 1U << fabric;
        model_.rates[i * model_.fabrics.size() + fabric] = rate;
      }
      if (const std::string& domain = node.given->domain; !domain.empty()) {
        node.domain = domains.try_emplace(domain, static_cast<Index>(domains.size())).first->second;
      }
      node_names_[node.given->name] = i;
    }
    return {};
  }

  Status find_homes() {
    homes_.resize(containers_.size());
    for (Index i = 0; i < containers_.size(); ++i) {
      TRY(homes_[i],
          find(node_names_, containers_[i]->node, "node of container " + containers_[i]->id));
    }
    return {};
  }

  // Failing ones first, by what time is left, and the one with more to move when that is the same.
  Status add_sources() {
    TRY(const auto given,
        sorted(
            request_.evacuations, [](const Evacuation& e) { return e.node; }, "evacuation of"));
    std::vector<double> work(model_.nodes.size());
    for (Index i = 0; i < containers_.size(); ++i) {
      work[homes_[i]] += static_cast<double>(containers_[i]->resident_bytes);
    }
    for (const Evacuation* evacuation : given) {
      Source source;
      source.given = evacuation;
      TRY(source.node, find(node_names_, evacuation->node, "node to be evacuated"));
      const bool failing = evacuation->reason == Reason::kFailing;
      source.deadline_s = evacuation->lead_s.value_or(
          failing ? request_.settings.unknown_lead_s : std::numeric_limits<double>::infinity());
      if (std::isnan(source.deadline_s)) {
        return fail(Errc::kInvalid, "node " + evacuation->node + ": a lead that is no number");
      }
      model_.sources.push_back(source);
    }
    std::stable_sort(model_.sources.begin(), model_.sources.end(),
                     [&](const Source& a, const Source& b) {
                       return std::tuple(a.given->reason, a.deadline_s, -work[a.node]) <
                              std::tuple(b.given->reason, b.deadline_s, -work[b.node]);
                     });
    for (Index i = 0; i < model_.sources.size(); ++i)
      model_.nodes[model_.sources[i].node].source = i;
    return {};
  }

  void exclude_bad_targets() {
    for (ModelNode& node : model_.nodes) {
      const Health health = node.given->health;
      const bool probation = health == Health::kProbation && request_.settings.allow_probation;
      if (node.source != kNone) {
        node.excluded = "being evacuated";
      } else if (health != Health::kUp && !probation) {
        node.excluded = to_string(health);
      } else if (!node.given->accepts) {
        node.excluded = "kept free by an operator";
      }
    }
  }

  Result<Index> find_container(const std::string& id, const std::string& who) const {
    const auto at =
        std::lower_bound(containers_.begin(), containers_.end(), id,
                         [](const Container* c, const std::string& name) { return c->id < name; });
    if (at != containers_.end() && (*at)->id == id)
      return static_cast<Index>(at - containers_.begin());
    return fail(Errc::kInvalid, who + ": there is no such container");
  }

  // Takes what is promised off the targets; those whose target has gone bad are to be cancelled.
  Status add_under_way() {
    TRY(const auto given,
        sorted(
            request_.under_way, [](const UnderWay& u) { return u.container; }, "migration of"));
    arriving_at_.assign(containers_.size(), kNone);
    for (const UnderWay* under_way : given) {
      const std::string who = "migration of " + under_way->container;
      TRY(const Index container, find_container(under_way->container, who));
      ModelUnderWay trip;
      trip.given = under_way;
      trip.from = homes_[container];
      TRY(trip.to, find(node_names_, under_way->to, who));
      TRY(trip.fabric, find(fabric_names_, under_way->fabric, who));
      if (model_.rate(trip.from, trip.fabric) <= 0 || model_.rate(trip.to, trip.fabric) <= 0) {
        return fail(Errc::kInvalid, who + ": not both nodes are on fabric " + under_way->fabric);
      }
      ModelNode& target = model_.nodes[trip.to];
      if (!target.excluded.empty() && target.given->accepts) {
        model_.cancel.push_back({under_way->container, under_way->to,
                                 "node " + under_way->to + " is " + target.excluded + " now"});
        continue;
      }
      const std::uint64_t memory = containers_[container]->memory_bytes;
      target.memory_free_bytes -= std::min(target.memory_free_bytes, memory);
      target.slots_free -= std::min(target.slots_free, 1U);
      arriving_at_[container] = trip.to;
      model_.under_way.push_back(trip);
    }
    return {};
  }

  Status add_past() {
    for (const PastMove& move : request_.past) {
      if (!not_negative(move.seconds_ago)) {
        return fail(Errc::kInvalid, "container " + move.container + ": a move in the future");
      }
      past_[move.container].push_back(&move);
    }
    return {};
  }

  // What cannot or need not go now, or "".
  std::string stays(const Container& container, const Source& source) const {
    const Node& node = *model_.nodes[source.node].given;
    if (node.health == Health::kDown) {
      return "node " + node.name + " is down: there is nothing left to move";
    }
    if (!container.cannot_move.empty()) return container.cannot_move;
    if (source.given->reason == Reason::kFailing) return {};
    if (const auto at = past_.find(container.id); at != past_.end()) {
      for (const PastMove* move : at->second) {
        const double rest_s = request_.settings.settle_s - move->seconds_ago;
        if (rest_s > 0) {
          return "it was moved " + std::to_string(std::lround(move->seconds_ago)) +
                 " s ago and its node is not failing: again in " +
                 std::to_string(std::lround(std::ceil(rest_s))) + " s";
        }
      }
    }
    return {};
  }

  Status add_leavers() {
    jobs_.assign(containers_.size(), kNone);
    for (Index i = 0; i < containers_.size(); ++i) {
      const Container& container = *containers_[i];
      const Index source = model_.nodes[homes_[i]].source;
      if (source == kNone || arriving_at_[i] != kNone) continue;
      if (std::string why = stays(container, model_.sources[source]); !why.empty()) {
        model_.staying.push_back({container.id, container.node, std::move(why)});
        continue;
      }
      TRY(Leaver leaver, make_leaver(container, source));
      jobs_[i] = leaver.job;
      model_.leavers.push_back(std::move(leaver));
    }
    return {};
  }

  Result<Leaver> make_leaver(const Container& container, Index source) {
    Leaver leaver;
    leaver.given = &container;
    leaver.source = source;
    leaver.bytes =
        static_cast<double>(container.resident_bytes) + static_cast<double>(container.layer_bytes);
    leaver.dirty_bytes_per_s =
        container.dirty_bytes_per_s.value_or(request_.learned.dirty_bytes_per_s);
    if (!not_negative(leaver.dirty_bytes_per_s)) {
      return fail(Errc::kInvalid, "container " + container.id + ": a dirty rate below 0");
    }
    for (const std::string& name : container.fabrics) {
      TRY(const Index fabric, find(fabric_names_, name, "fabric of container " + container.id));
      leaver.fabrics |= 1U << fabric;
    }
    if (const auto at = past_.find(container.id); at != past_.end()) {
      for (const PastMove* move : at->second) {
        const auto node = node_names_.find(move->from);
        const bool recent = move->seconds_ago < request_.settings.hold_s;
        if (recent && node != node_names_.end()) leaver.held.push_back(node->second);
      }
    }
    leaver.job = job_of(container);
    return leaver;
  }

  // One of its own for a container without a job.
  Index job_of(const Container& container) {
    if (container.job.empty()) {
      model_.job_ranks.push_back(0);
      return static_cast<Index>(model_.job_ranks.size() - 1);
    }
    const auto [at, added] =
        job_names_.try_emplace(container.job, static_cast<Index>(model_.job_ranks.size()));
    if (added) model_.job_ranks.push_back(0);
    return at->second;
  }

  void count_ranks() {
    model_.job_lost.assign(model_.job_ranks.size(), false);
    for (Index i = 0; i < containers_.size(); ++i) {
      if (jobs_[i] != kNone) {
        ++model_.job_ranks[jobs_[i]];
        continue;
      }
      const auto at = job_names_.find(containers_[i]->job);
      if (containers_[i]->job.empty() || at == job_names_.end()) continue;
      const Index job = at->second;
      ++model_.job_ranks[job];
      if (model_.nodes[homes_[i]].given->health == Health::kDown) model_.job_lost[job] = true;
      const Index place = arriving_at_[i] == kNone ? homes_[i] : arriving_at_[i];
      model_.on_node.add(job, place);
      const Index domain = model_.nodes[place].domain;
      if (domain != kNone) model_.in_domain.add(job, domain);
    }
  }

  const Request& request_;
  Model model_;
  Names fabric_names_;
  Names node_names_;
  Names job_names_;
  std::unordered_map<std::string_view, std::vector<const PastMove*>> past_;
  std::vector<const Container*> containers_;
  std::vector<Index> homes_;        // node of each container
  std::vector<Index> arriving_at_;  // node it is under way to
  std::vector<Index> jobs_;         // of each that leaves
};

}  // namespace

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", seconds);
  return text;
}

Result<Model> make_model(const Request& request) {
  return Builder(request).build();
}

}  // namespace lifeboat::evacuation
