// source.hpp - where events come from. Every source reads below a root prefix and takes the time from
// its caller, so that a recorded tree replays as it happened.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "predictor/event.hpp"

namespace lifeboat::predictor {

class Source {
 public:
  virtual ~Source() = default;

  [[nodiscard]] virtual std::string name() const = 0;
  // What is new since the last call, in the order it happened; never waits longer than a moment (a
  // source that runs a program polls for its end). kNotFound: this node has no such source, which the
  // caller says once and then asks rarely. Any other error: said once until it works again, and
  // nothing is concluded from it.
  virtual Result<std::vector<Event>> poll(Time now) = 0;
  // How often to ask.
  [[nodiscard]] virtual Duration interval() const = 0;
  // Where it stands, to go on after a restart without telling anything twice; empty: nothing to keep.
  [[nodiscard]] virtual std::string save() const { return {}; }
  virtual void restore(const std::string& /*saved*/) {}
};

}  // namespace lifeboat::predictor
