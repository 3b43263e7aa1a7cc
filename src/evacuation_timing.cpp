#include "evacuation_timing.hpp"

#include <algorithm>
#include <functional>
#include <queue>
#include <set>
#include <tuple>

#include "evacuation_forecast.hpp"

namespace lifeboat::evacuation {

namespace {

// Shares of a wire: a frozen container goes before all that run.
constexpr unsigned kRunningWeight = 1;
constexpr unsigned kFrozenWeight = 16;

// The phases of a migration, in their order; those that send use the wire.
enum class Phase { kWaiting, kSetup, kRounds, kTurn, kFrozen, kFreeze, kDrain, kDone };

struct Flow {
  Index from = 0;
  Index to = 0;
  Index fabric = 0;
  Index source = kNone;  // kNone: its node is not to be emptied
  Phase phase = Phase::kWaiting;
  Forecast sends;
  double left = 0;  // bytes of this phase
  double rate = 0;
  double since_s = 0;  // `left` and `rate` hold from here on
  double frozen_s = 0;
  unsigned weight = 0;
  unsigned version = 0;  // of its next event
};

struct Wire {
  unsigned weight = 0;  // of all that send
  unsigned used = 0;    // migrations over it, whatever they do
  std::vector<Index> sending;
};

struct Event {
  double at_s = 0;
  Index flow = 0;  // beyond the flows: release of a source
  unsigned version = 0;
  bool operator>(const Event& other) const {
    return std::tie(at_s, flow) > std::tie(other.at_s, other.flow);
  }
};

// The discrete events of one schedule. Flows are first the trips, then what is under way.
class Player {
 public:
  Player(const Model& model, const Schedule& schedule)
      : model_(model), schedule_(schedule), limits_(model.request->limits) {
    const std::size_t nodes = model.nodes.size();
    wires_out_.resize(nodes * model.fabrics.size());
    wires_in_.resize(nodes * model.fabrics.size());
    fabrics_.resize(model.fabrics.size());
    waiting_for_fabric_.resize(model.fabrics.size());
    leaving_.resize(nodes);
    arriving_.resize(nodes);
    frozen_.resize(nodes);
    turns_.resize(nodes);
    waiting_for_target_.resize(nodes);
    queues_ = schedule.queues;
    times_.trips.resize(schedule.trips.size() + model.under_way.size());
  }

  Timetable run() {
    add_flows();
    for (Index s = 0; s < queues_.size(); ++s) {
      if (queues_[s].empty()) continue;
      if (schedule_.release_s[s] <= 0) {
        ready_.insert(s);
      } else {
        events_.push({schedule_.release_s[s], static_cast<Index>(flows_.size()) + s, 0});
      }
    }
    start_ready();
    while (!events_.empty()) {
      const Event event = events_.top();
      events_.pop();
      if (event.flow < flows_.size() && flows_[event.flow].version != event.version) continue;
      now_s_ = event.at_s;
      ended_ = kNone;
      if (event.flow >= flows_.size()) {
        ready_.insert(event.flow - static_cast<Index>(flows_.size()));
        start_ready();
      } else {
        next_phase(event.flow);
        if (flows_[event.flow].phase == Phase::kDone) pass_on_places(flows_[event.flow]);
      }
    }
    return std::move(times_);
  }

 private:
  void add_flows() {
    flows_.resize(schedule_.trips.size());
    for (Index i = 0; i < flows_.size(); ++i) {
      const Trip& trip = schedule_.trips[i];
      Flow& flow = flows_[i];
      flow.source = model_.leavers[trip.leaver].source;
      flow.from = model_.sources[flow.source].node;
      flow.to = trip.target;
      flow.fabric = trip.fabric;
    }
    // All of them are there before the first gets its rate: they share from the start.
    for (const ModelUnderWay& trip : model_.under_way) {
      Flow flow;
      flow.from = trip.from;
      flow.to = trip.to;
      flow.fabric = trip.fabric;
      flow.source = model_.nodes[trip.from].source;
      flow.sends.bytes_running = static_cast<double>(trip.given->bytes_left);
      flows_.push_back(flow);
    }
    for (auto i = static_cast<Index>(schedule_.trips.size()); i < flows_.size(); ++i) {
      take_places(flows_[i]);
      flows_[i].phase = Phase::kSetup;
      next_phase(i);
    }
  }

  Wire& out_of(const Flow& flow) {
    return wires_out_[flow.from * model_.fabrics.size() + flow.fabric];
  }
  Wire& into(const Flow& flow) { return wires_in_[flow.to * model_.fabrics.size() + flow.fabric]; }

  // ------------------------------------------------------------------------------------ wires

  double share(const Flow& flow) {
    const double weight = flow.weight;
    const Fabric& fabric = *model_.fabrics[flow.fabric];
    double rate = std::min(model_.rate(flow.from, flow.fabric) * weight / out_of(flow).weight,
                           model_.rate(flow.to, flow.fabric) * weight / into(flow).weight);
    if (fabric.total_bytes_per_s > 0) {
      rate = std::min(rate, fabric.total_bytes_per_s * weight / fabrics_[flow.fabric].weight);
    }
    if (fabric.measured_bytes_per_s > 0) rate = std::min(rate, fabric.measured_bytes_per_s);
    return rate;
  }

  void set_rate(Index index) {
    Flow& flow = flows_[index];
    const double rate = share(flow);
    if (rate == flow.rate) return;
    flow.left = std::max(0.0, flow.left - flow.rate * (now_s_ - flow.since_s));
    flow.since_s = now_s_;
    flow.rate = rate;
    events_.push({now_s_ + flow.left / rate, index, ++flow.version});
  }

  // Puts a flow on its wires (weight > 0) or takes it off (0); the others there get new rates.
  void set_weight(Index index, unsigned weight) {
    Flow& flow = flows_[index];
    Wire* wires[] = {&out_of(flow), &into(flow), &fabrics_[flow.fabric]};
    for (Wire* wire : wires) {
      wire->weight = wire->weight + weight - flow.weight;
      if (flow.weight == 0) wire->sending.push_back(index);
      if (weight == 0) std::erase(wire->sending, index);
    }
    flow.weight = weight;
    const bool shared = model_.fabrics[flow.fabric]->total_bytes_per_s > 0;
    for (Wire* wire : wires) {
      if (wire == wires[2] && !shared) continue;
      for (const Index other : wire->sending) set_rate(other);
    }
  }

  // ----------------------------------------------------------------------------------- phases

  void wait(Index index, double seconds) {
    events_.push({now_s_ + seconds, index, ++flows_[index].version});
  }

  void send(Index index, double bytes, unsigned weight) {
    Flow& flow = flows_[index];
    flow.left = bytes;
    flow.rate = 0;
    flow.since_s = now_s_;
    if (bytes <= 0) {
      wait(index, 0);
    } else {
      set_weight(index, weight);
    }
  }

  void next_phase(Index index) {
    Flow& flow = flows_[index];
    if (flow.weight > 0) set_weight(index, 0);
    flow.phase = static_cast<Phase>(static_cast<int>(flow.phase) + 1);
    switch (flow.phase) {
      case Phase::kWaiting:
        break;
      case Phase::kSetup:
        wait(index, model_.request->learned.setup_s);
        break;
      case Phase::kRounds:
        send(index, flow.sends.bytes_running, kRunningWeight);
        break;
      case Phase::kTurn:
        turns_[flow.from].push(index);
        give_turns(flow.from);
        break;
      case Phase::kFrozen:
        send(index, flow.sends.bytes_frozen, kFrozenWeight);
        break;
      case Phase::kFreeze:
        wait(index, model_.request->learned.freeze_s);
        break;
      case Phase::kDrain: {
        --frozen_[flow.from];
        times_.trips[index].downtime_s = now_s_ - flow.frozen_s;
        send(index, flow.sends.bytes_after, kRunningWeight);
        give_turns(flow.from);
        break;
      }
      case Phase::kDone:
        finish(index);
        break;
    }
  }

  // Who waits at this node to be frozen, as long as there is a place for it.
  void give_turns(Index node) {
    while (!turns_[node].empty() && frozen_[node] < limits_.frozen_per_node) {
      const Index index = turns_[node].front();
      turns_[node].pop();
      ++frozen_[node];
      flows_[index].frozen_s = now_s_;
      next_phase(index);
    }
  }

  // ------------------------------------------------------------------------- beginning and end

  void take_places(const Flow& flow) {
    ++leaving_[flow.from];
    ++arriving_[flow.to];
    ++out_of(flow).used;
    ++into(flow).used;
    ++fabrics_[flow.fabric].used;
    ++moving_;
  }

  void finish(Index index) {
    const Flow& flow = flows_[index];
    --leaving_[flow.from];
    --arriving_[flow.to];
    --out_of(flow).used;
    --into(flow).used;
    --fabrics_[flow.fabric].used;
    --moving_;
    times_.trips[index].end_s = now_s_;
    times_.end_s = std::max(times_.end_s, now_s_);
    times_.sum_s += now_s_;
    if (index < schedule_.trips.size()) ended_ = index;
  }

  // After the end of a flow: its places go to the most urgent that waits for one of them.
  void pass_on_places(const Flow& ended) {
    std::set<Index>& for_target = waiting_for_target_[ended.to];
    std::set<Index>& for_fabric = waiting_for_fabric_[ended.fabric];
    if (ended.source != kNone) ready_.insert(ended.source);
    for (std::set<Index>* waiting : {&for_target, &for_fabric}) {
      if (!waiting->empty()) ready_.insert(waiting->extract(waiting->begin()).value());
    }
    const unsigned arriving = arriving_[ended.to];
    const unsigned on_fabric = fabrics_[ended.fabric].used;
    start_ready();
    offer(for_target, arriving_[ended.to], arriving);
    offer(for_fabric, fabrics_[ended.fabric].used, on_fabric);
  }

  // To one after the other, until somebody takes the place.
  void offer(std::set<Index>& waiting, const unsigned& used, unsigned used_before) {
    std::set<Index> candidates = std::move(waiting);
    waiting.clear();
    while (!candidates.empty() && used <= used_before) {
      ready_.insert(candidates.extract(candidates.begin()).value());
      start_ready();
    }
    if (waiting.size() < candidates.size()) waiting.swap(candidates);
    waiting.merge(candidates);
  }

  void start_ready() {
    while (!ready_.empty()) {
      if (limits_.per_cluster > 0 && moving_ >= limits_.per_cluster) return;
      const Index source = *ready_.begin();
      const bool released = schedule_.release_s[source] <= now_s_;
      if (!released || !start_one_of(source)) ready_.erase(source);
    }
  }

  // Starts the first of a source's queue that may; notes for the others what they wait for.
  bool start_one_of(Index source) {
    std::vector<Index>& queue = queues_[source];
    if (leaving_[model_.sources[source].node] >= limits_.leaving_per_node) return false;
    for (auto at = queue.begin(); at != queue.end(); ++at) {
      if (!may_start(flows_[*at])) continue;
      const Index index = *at;
      queue.erase(at);
      begin(index);
      return !queue.empty();
    }
    return false;
  }

  bool may_start(const Flow& flow) {
    const Fabric& fabric = *model_.fabrics[flow.fabric];
    if (out_of(flow).used >= schedule_.streams_per_wire) return false;
    if (fabric.at_once > 0 && fabrics_[flow.fabric].used >= fabric.at_once) {
      waiting_for_fabric_[flow.fabric].insert(flow.source);
      return false;
    }
    // As many as the wires of so many sources: a fast target takes in several of them.
    const double ratio = model_.rate(flow.to, flow.fabric) / model_.rate(flow.from, flow.fabric);
    const double streams = schedule_.streams_per_wire * std::max(1.0, ratio);
    if (arriving_[flow.to] >= limits_.arriving_per_node || into(flow).used + 1 > streams) {
      waiting_for_target_[flow.to].insert(flow.source);
      return false;
    }
    return true;
  }

  void begin(Index index) {
    Flow& flow = flows_[index];
    take_places(flow);
    TripTimes& times = times_.trips[index];
    times.start_s = now_s_;
    times.after = ended_;
    choose_mode(flow, model_.leavers[schedule_.trips[index].leaver], times);
    next_phase(index);
  }

  // Pre-copy unless the time that is left allows no round, or, from a healthy node, it is allowed
  // to leave pages behind for later.
  void choose_mode(Flow& flow, const Leaver& leaver, TripTimes& times) {
    const Request& request = *model_.request;
    const Settings& settings = request.settings;
    const Source& source = model_.sources[flow.source];
    const Fabric& fabric = *model_.fabrics[flow.fabric];
    double rate = std::min(model_.rate(flow.from, flow.fabric) / out_of(flow).used,
                           model_.rate(flow.to, flow.fabric) / into(flow).used);
    if (fabric.total_bytes_per_s > 0) {
      rate = std::min(rate, fabric.total_bytes_per_s / fabrics_[flow.fabric].used);
    }
    if (fabric.measured_bytes_per_s > 0) rate = std::min(rate, fabric.measured_bytes_per_s);
    times.rate_bytes_per_s = rate;
    const auto plan = [&](Mode mode) {
      return forecast(mode, leaver.bytes, leaver.dirty_bytes_per_s, rate, settings);
    };
    flow.sends = plan(Mode::kPreCopy);
    const double takes_s = request.learned.setup_s + request.learned.freeze_s +
                           (flow.sends.bytes_running + flow.sends.bytes_frozen) / rate;
    const bool late = now_s_ + takes_s * settings.safety_factor > source.deadline_s;
    const bool healthy = source.given->reason == Reason::kMaintenance && settings.allow_post_copy;
    if (healthy && late) {
      times.mode = Mode::kPostCopy;
    } else if (late) {
      times.mode = Mode::kStopAndCopy;
    } else if (healthy && !flow.sends.converges) {
      times.mode = Mode::kHybrid;
    }
    if (times.mode != Mode::kPreCopy) flow.sends = plan(times.mode);
  }

  const Model& model_;
  const Schedule& schedule_;
  const Limits& limits_;
  std::vector<Flow> flows_;
  std::vector<Wire> wires_out_;  // node x fabric; a wire carries as much each way
  std::vector<Wire> wires_in_;
  std::vector<Wire> fabrics_;
  std::vector<unsigned> leaving_, arriving_, frozen_;
  std::vector<std::queue<Index>> turns_;
  unsigned moving_ = 0;
  std::vector<std::vector<Index>> queues_;
  std::set<Index> ready_;  // sources that may be able to start something
  std::vector<std::set<Index>> waiting_for_target_;
  std::vector<std::set<Index>> waiting_for_fabric_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  double now_s_ = 0;
  Index ended_ = kNone;  // the trip that ended just now
  Timetable times_;
};

}  // namespace

Timetable play(const Model& model, const Schedule& schedule) {
  return Player(model, schedule).run();
}

}  // namespace lifeboat::evacuation
