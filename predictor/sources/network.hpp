// network.hpp - links in trouble: error counters of interfaces and InfiniBand ports that grew, and
// links that were lost.
//
// /sys/class/net/IF/{carrier_changes,operstate,statistics/*} of interfaces with a device behind
// them (bridges, veth and tunnels only mirror others), /sys/class/infiniband/*/ports/*/counters/*.
// What was dropped for want of room is no error. InfiniBand's counters stop at their highest value.
#pragma once

#include <chrono>

#include "predictor/source.hpp"
#include "predictor/sources/counters.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

struct NetworkOptions {
  std::chrono::milliseconds interval{10'000};
  std::vector<std::string> interfaces;  // empty: all with a device
};

class NetworkSource final : public Source {
 public:
  NetworkSource(Place place, NetworkOptions options)
      : place_(std::move(place)), options_(std::move(options)) {}

  [[nodiscard]] std::string name() const override { return "network"; }
  // kNotFound: no interface and no port. kProtocol: a counter that is no number.
  Result<std::vector<Event>> poll(Time now) override;
  [[nodiscard]] Duration interval() const override { return options_.interval; }
  [[nodiscard]] std::string save() const override { return counters_.save(place_.boot_id()); }
  void restore(const std::string& saved) override { counters_.restore(saved, place_.boot_id()); }

 private:
  // What grew of the `names` in `directory`, as one event. `severe`: one of them that is worse.
  struct Group {
    std::string location;
    std::string directory;
    std::vector<std::string> names;
    std::string severe;
  };
  [[nodiscard]] std::vector<std::string> interfaces() const;
  Status read_group(const Group& group, Time now, std::vector<Event>& events);
  Status read_carrier(const std::string& interface, Time now, std::vector<Event>& events);
  Event event(const std::string& location, Time now) const;

  Place place_;
  NetworkOptions options_;
  Counters counters_;
};

}  // namespace lifeboat::predictor
