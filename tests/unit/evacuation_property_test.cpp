// What must hold for any plan of evacuation, tried on random requests: every container is placed or
// explained, no bad target, room and limits kept at all times, the same plan whatever the order of
// the request.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "evacuation_report.hpp"

namespace lifeboat::evacuation {
namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr unsigned kRequests = 300;

using Random = std::mt19937_64;

bool chance(Random& random, unsigned percent) {
  return random() % 100 < percent;
}

std::string name(const char* prefix, std::uint64_t number) {
  return prefix + std::to_string(number);
}

Node random_node(Random& random, const std::string& node_name) {
  Node node;
  node.name = node_name;
  if (chance(random, 30)) node.health = static_cast<Health>(random() % 6);
  node.accepts = !chance(random, 10);
  node.memory_free_bytes = random() % 40 * kGiB;
  node.slots_free = static_cast<unsigned>(random() % 5);
  node.domain = chance(random, 80) ? name("rack", random() % 4) : "";
  node.preference = static_cast<unsigned>(random() % 2);
  if (chance(random, 90)) node.fabrics["eth"] = chance(random, 50) ? 1e9 : 0.25e9;
  if (chance(random, 50) || node.fabrics.empty()) node.fabrics["ib"] = 4e9;
  return node;
}

Container random_container(Random& random, const std::string& id, const Node& home) {
  Container container;
  container.id = id;
  container.node = home.name;
  if (chance(random, 80)) container.job = name("job", random() % 8);
  container.memory_bytes = random() % 12 * kGiB;
  container.resident_bytes = container.memory_bytes * (random() % 101) / 100;
  container.layer_bytes = random() % 2 * kGiB;
  if (chance(random, 70)) container.dirty_bytes_per_s = static_cast<double>(random() % 2'000) * 1e6;
  if (chance(random, 30)) container.fabrics = {home.fabrics.begin()->first};
  return container;
}

void add_under_way(Random& random, Request& request, const Container& container, const Node& from) {
  const Node& to = request.nodes[random() % request.nodes.size()];
  for (const auto& [fabric, rate] : from.fabrics) {
    if (to.name == from.name || !to.fabrics.contains(fabric)) continue;
    request.under_way.push_back({container.id, to.name, fabric, random() % (4 * kGiB)});
    return;
  }
}

Request random_request(Random& random) {
  Request request;
  request.fabrics = {{.name = "eth"}, {.name = "ib"}};
  if (chance(random, 20)) request.fabrics[0].total_bytes_per_s = 2e9;
  if (chance(random, 20)) request.fabrics[1].measured_bytes_per_s = 1e9;
  if (chance(random, 30)) request.fabrics[0].at_once = 1 + static_cast<unsigned>(random() % 3);
  for (unsigned i = 0; i < 4 + random() % 12; ++i)
    request.nodes.push_back(random_node(random, name("n", i)));
  const std::size_t containers = random() % 40;
  for (unsigned i = 0; i < containers; ++i) {
    const Node& home = request.nodes[random() % request.nodes.size()];
    request.containers.push_back(random_container(random, name("c", i), home));
    if (chance(random, 5)) add_under_way(random, request, request.containers.back(), home);
    if (chance(random, 10)) {
      request.past.push_back(
          {name("c", i), name("n", random() % 8), static_cast<double>(random() % 7200)});
    }
  }
  for (const Node& node : request.nodes) {
    if (!chance(random, 30)) continue;
    Evacuation evacuation{
        node.name, chance(random, 60) ? Reason::kFailing : Reason::kMaintenance, {}};
    if (chance(random, 70)) evacuation.lead_s = static_cast<double>(random() % 300);
    request.evacuations.push_back(evacuation);
  }
  request.limits.leaving_per_node = 1 + static_cast<unsigned>(random() % 4);
  request.limits.arriving_per_node = 1 + static_cast<unsigned>(random() % 4);
  request.limits.frozen_per_node = 1 + static_cast<unsigned>(random() % 2);
  request.limits.per_cluster = static_cast<unsigned>(random() % 5);
  request.settings.allow_probation = chance(random, 30);
  request.settings.allow_post_copy = chance(random, 50);
  request.settings.ranks_per_node_max = static_cast<unsigned>(random() % 4);
  return request;
}

template <class T, class Key>
std::map<std::string, const T*> by(const std::vector<T>& items, Key key) {
  std::map<std::string, const T*> out;
  for (const T& item : items) out[key(item)] = &item;
  return out;
}

// Calls `check` for each request with its plan; says which one failed.
template <class Check>
void for_random_plans(Check check) {
  for (unsigned seed = 1; seed <= kRequests && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const Request request = random_request(random);
    const auto plan = plan_evacuation(request);
    ASSERT_TRUE(plan.has_value()) << plan.error().message;
    check(request, *plan, random);
  }
}

TEST(EvacuationProperties, EveryContainerIsPlacedOrUnderWayOrExplained) {
  for_random_plans([](const Request& request, const Plan& plan, Random&) {
    std::multiset<std::string> told;
    for (const Step& step : plan.steps) told.insert(step.container);
    for (const Unplaced& unplaced : plan.unplaced) {
      told.insert(unplaced.container);
      EXPECT_FALSE(unplaced.why.empty());
    }
    std::set<std::string> moving;
    for (const UnderWay& u : request.under_way) moving.insert(u.container);
    for (const Cancel& cancel : plan.cancel) EXPECT_EQ(moving.erase(cancel.container), 1U);
    const auto leaves = by(request.evacuations, [](const Evacuation& e) { return e.node; });
    for (const Container& c : request.containers) {
      const bool expected = leaves.contains(c.node) && !moving.contains(c.id);
      EXPECT_EQ(told.count(c.id), expected ? 1U : 0U) << c.id;
    }
  });
}

TEST(EvacuationProperties, TargetsAreHealthyReachableAndHaveRoom) {
  for_random_plans([](const Request& request, const Plan& plan, Random&) {
    const auto nodes = by(request.nodes, [](const Node& n) { return n.name; });
    const auto containers = by(request.containers, [](const Container& c) { return c.id; });
    const auto leaves = by(request.evacuations, [](const Evacuation& e) { return e.node; });
    std::set<std::string> cancelled;
    for (const Cancel& cancel : plan.cancel) cancelled.insert(cancel.container);
    std::map<std::string, std::uint64_t> memory;
    std::map<std::string, unsigned> slots;
    // What is under way may be more than there is room for: that is not the plan's.
    for (const UnderWay& u : request.under_way) {
      if (cancelled.contains(u.container)) continue;
      memory[u.to] += containers.at(u.container)->memory_bytes;
      ++slots[u.to];
    }
    for (const Step& step : plan.steps) {
      const Node& to = *nodes.at(step.to);
      const Container& container = *containers.at(step.container);
      EXPECT_TRUE(to.health == Health::kUp ||
                  (to.health == Health::kProbation && request.settings.allow_probation));
      EXPECT_TRUE(to.accepts);
      EXPECT_FALSE(leaves.contains(step.to));
      EXPECT_NE(nodes.at(step.from)->health, Health::kDown);
      EXPECT_TRUE(to.fabrics.contains(step.fabric) &&
                  nodes.at(step.from)->fabrics.contains(step.fabric));
      for (const std::string& fabric : container.fabrics) EXPECT_TRUE(to.fabrics.contains(fabric));
      memory[step.to] += container.memory_bytes;
      ++slots[step.to];
      if (container.memory_bytes > 0) {
        EXPECT_LE(memory[step.to], to.memory_free_bytes);
      }
      EXPECT_LE(slots[step.to], to.slots_free);
      for (const PastMove& move : request.past) {
        if (move.container != step.container) continue;
        EXPECT_FALSE(move.from == step.to && move.seconds_ago < request.settings.hold_s);
      }
    }
  });
}

TEST(EvacuationProperties, RanksTogetherOnlyAsManyAsAllowed) {
  for_random_plans([](const Request& request, const Plan& plan, Random&) {
    if (request.settings.ranks_per_node_max == 0) return;
    const auto containers = by(request.containers, [](const Container& c) { return c.id; });
    const auto steps = by(plan.steps, [](const Step& s) { return s.container; });
    for (const Step& step : plan.steps) {
      const std::string& job = containers.at(step.container)->job;
      if (job.empty()) continue;
      unsigned there = 0;
      for (const Container& other : request.containers) {
        const auto moved = steps.find(other.id);
        const std::string& where = moved == steps.end() ? other.node : moved->second->to;
        if (other.job == job && where == step.to) ++there;
      }
      // One that is on its way somewhere else is counted there.
      EXPECT_LE(there, request.settings.ranks_per_node_max + request.under_way.size());
    }
  });
}

// At the begin of every step: how many others are on their way with it.
TEST(EvacuationProperties, LimitsAreKeptAtAllTimes) {
  for_random_plans([](const Request& request, const Plan& plan, Random&) {
    const auto fabrics = by(request.fabrics, [](const Fabric& f) { return f.name; });
    const Limits& limits = request.limits;
    const auto end = [](const Step& s) { return s.start_s + s.duration_s; };
    for (const Step& step : plan.steps) {
      EXPECT_GT(step.duration_s, 0);
      EXPECT_GE(step.downtime_s, request.learned.freeze_s - 1e-9);
      EXPECT_LE(step.downtime_s, step.duration_s);
      unsigned all = 0, leaving = 0, arriving = 0, fabric = 0, wire = 0;
      for (const Step& other : plan.steps) {
        // Ends and begins that are the same instant may differ in the last bits.
        if (other.start_s > step.start_s || end(other) <= step.start_s + 1e-9) continue;
        ++all;
        if (other.from == step.from) ++leaving;
        if (other.to == step.to) ++arriving;
        if (other.fabric == step.fabric) ++fabric;
        if (other.fabric == step.fabric && other.from == step.from) ++wire;
      }
      EXPECT_TRUE(limits.per_cluster == 0 || all <= limits.per_cluster);
      EXPECT_LE(leaving, limits.leaving_per_node);
      EXPECT_LE(arriving, limits.arriving_per_node);
      EXPECT_LE(wire, plan.streams_per_wire);
      const unsigned at_once = fabrics.at(step.fabric)->at_once;
      EXPECT_TRUE(at_once == 0 || fabric <= at_once);
    }
  });
}

// No wire carries more than it can: what is sent over it is at least the memory of what moves.
TEST(EvacuationProperties, NoNodeIsEmptySoonerThanItsWiresAllow) {
  for_random_plans([](const Request& request, const Plan& plan, Random&) {
    const auto containers = by(request.containers, [](const Container& c) { return c.id; });
    for (const Node& node : request.nodes) {
      for (const auto& [fabric, rate] : node.fabrics) {
        double sent = 0, received = 0, first = 1e9, last = 0;
        for (const Step& step : plan.steps) {
          if (step.fabric != fabric || (step.from != node.name && step.to != node.name)) continue;
          const Container& c = *containers.at(step.container);
          (step.from == node.name ? sent : received) +=
              static_cast<double>(c.resident_bytes + c.layer_bytes);
          first = std::min(first, step.start_s);
          last = std::max(last, step.start_s + step.duration_s);
        }
        if (last > 0) {
          EXPECT_LE(std::max(sent, received), rate * (last - first) * (1 + 1e-9));
        }
      }
    }
  });
}

TEST(EvacuationProperties, AWindowThatFitsIsKept) {
  for_random_plans([](const Request& request, const Plan& plan, Random&) {
    for (const NodeForecast& node : plan.nodes) {
      if (node.fits && node.lead_s) {
        EXPECT_LE(node.end_s, *node.lead_s + 1e-6);
      }
      for (const Step& step : plan.steps) {
        if (step.from == node.node) {
          EXPECT_GE(step.start_s, node.latest_start_s - 1e-9);
        }
      }
      if (node.reason == Reason::kFailing) {
        EXPECT_EQ(node.latest_start_s, 0);
      }
    }
    EXPECT_EQ(plan.nodes.size(), request.evacuations.size());
  });
}

TEST(EvacuationProperties, TheSamePlanInWhateverOrderItIsAsked) {
  for_random_plans([](const Request& request, const Plan& plan, Random& random) {
    Request shuffled = request;
    std::shuffle(shuffled.fabrics.begin(), shuffled.fabrics.end(), random);
    std::shuffle(shuffled.nodes.begin(), shuffled.nodes.end(), random);
    std::shuffle(shuffled.containers.begin(), shuffled.containers.end(), random);
    std::shuffle(shuffled.evacuations.begin(), shuffled.evacuations.end(), random);
    std::shuffle(shuffled.under_way.begin(), shuffled.under_way.end(), random);
    std::shuffle(shuffled.past.begin(), shuffled.past.end(), random);
    const auto again = plan_evacuation(shuffled);
    ASSERT_TRUE(again.has_value());
    EXPECT_EQ(json::serialize(to_json(*again)), json::serialize(to_json(plan)));
  });
}

// Planning goes on from a state that a plan has led to: what it started is under way.
TEST(EvacuationProperties, AskedAgainWithTheFirstStepsUnderWayItKeepsThem) {
  for_random_plans([](const Request& request, const Plan& plan, Random&) {
    Request later = request;
    std::set<std::string> started;
    for (const Step& step : plan.steps) {
      if (step.start_s > 0) continue;
      later.under_way.push_back({step.container, step.to, step.fabric, kGiB});
      started.insert(step.container);
    }
    std::erase_if(later.under_way, [&](const UnderWay& u) {
      return std::any_of(plan.cancel.begin(), plan.cancel.end(), [&](const Cancel& c) {
        return c.container == u.container && c.to == u.to;
      });
    });
    const auto again = plan_evacuation(later);
    ASSERT_TRUE(again.has_value()) << again.error().message;
    EXPECT_TRUE(again->cancel.empty());
    for (const Step& step : again->steps) EXPECT_FALSE(started.contains(step.container));
  });
}

}  // namespace
}  // namespace lifeboat::evacuation
