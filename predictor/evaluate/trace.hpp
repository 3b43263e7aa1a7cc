// trace.hpp - how the risk of each unit went and when it was down: what any alarm policy can be scored on,
// without running the models again.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "predictor/event.hpp"

namespace lifeboat::predictor {

struct RiskSample {
  Time time{};
  float risk = 0;
  bool repaired = false;  // it has just come back
};

struct Outage {
  Time start{};
  Time end{};         // Time::max() while it lasts
  std::string cause;  // its class, or what was said; may be empty
};

struct UnitTrace {
  std::string name;
  Time seen{};
  std::vector<RiskSample> samples;  // in the order of time, none while it is down
  std::vector<Outage> outages;      // in the order of time
};

}  // namespace lifeboat::predictor
