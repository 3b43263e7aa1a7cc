// failures.hpp - intervals out of service, merged per node, as events.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "predictor/event.hpp"

namespace lifeboat::predictor {

struct Failure {
  Time start{};
  Time end{};  // back in service; not before `start`
  Event event; // what is told at the start; time and kind are set from here
};

// Failures of one node that overlap, or begin within this time after a repair, are one.
inline constexpr Duration kOneFailure = std::chrono::seconds(300);

class Failures {
 public:
  void add(Failure failure) { of_[failure.event.node].push_back(std::move(failure)); }
  // Appends a kDown and a kRepaired for each.
  void append_to(std::vector<Event>& events);

 private:
  std::map<std::string, std::vector<Failure>> of_;
};

}  // namespace lifeboat::predictor
