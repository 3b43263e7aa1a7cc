// ipmi.hpp - the system event log that a node's management controller keeps (`ipmitool sel elist`):
//
//   3e | 10/02/2025 | 22:07:09 | Temperature Inlet | Upper Non-critical going high | Asserted | ...
//
// Entries are told once, known by their whole text: ids are used again after the log was cleared.
// The first poll only notes what there is: the log may hold years. An entry from before the
// controller knew the time ("Pre-Init") has that of the poll. Entries that say that something is
// over ("Deasserted") stay messages.
#pragma once

#include <chrono>
#include <optional>
#include <set>

#include "predictor/source.hpp"
#include "predictor/sources/program.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

struct IpmiOptions {
  std::chrono::milliseconds interval{300'000};
  std::chrono::milliseconds limit{60'000};  // controllers are slow
  std::string program = "ipmitool";
};

// One line of the log as an event, but for node and source; nothing if it is none. `now`: for an
// entry without a time.
[[nodiscard]] std::optional<Event> parse_sel_line(std::string_view line, Time now);

class IpmiSource final : public Source {
 public:
  IpmiSource(Place place, IpmiOptions options)
      : place_(std::move(place)), options_(std::move(options)) {}

  [[nodiscard]] std::string name() const override { return "ipmi"; }
  // kNotFound: no controller (/dev/ipmi0) or no ipmitool.
  Result<std::vector<Event>> poll(Time now) override;
  // Often while ipmitool runs.
  [[nodiscard]] Duration interval() const override;
  [[nodiscard]] std::string save() const override;
  void restore(const std::string& saved) override;

 private:
  Result<std::vector<Event>> judge(const Program::Output& output, Time now);

  Place place_;
  IpmiOptions options_;
  Program program_;
  std::optional<std::set<std::uint64_t>> known_;  // hashes of the entries of the last complete log
};

}  // namespace lifeboat::predictor
