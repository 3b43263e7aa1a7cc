// readers.hpp - what reads one format, line by line (see formats.hpp).
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "predictor/evaluate/formats.hpp"

namespace lifeboat::predictor {

class Reader {
 public:
  virtual ~Reader() = default;
  // False: not a line of the format.
  virtual bool line(std::string_view line) = 0;
  // From now on, what happened at or after `limit` is passed over.
  void set_limit(Time limit) { limit_ = limit; }
  // Appends all events, in any order but that of equal times.
  virtual void finish(std::vector<Event>& events) = 0;

 protected:
  [[nodiscard]] bool beyond(Time time) const { return time >= limit_; }

 private:
  Time limit_ = Time::max();
};

std::unique_ptr<Reader> make_mira_reader(const std::vector<Input>& reservations);
std::unique_ptr<Reader> make_bgl_reader();
std::unique_ptr<Reader> make_kmsg_reader();

}  // namespace lifeboat::predictor
