// edac.hpp - memory errors as the kernel's EDAC drivers count them in sysfs, per DIMM (or rank)
// and, for those that no DIMM could be named for, per controller.
//
// /sys/devices/system/edac/mc/mcN/{dimm,rank}M/dimm_{ce,ue}_count, mcN/{ce,ue}_noinfo_count. Counts
// have no times: an event carries that of the poll, and how many there were since the last one. The
// same errors are in the kernel's log and in rasdaemon's database: see repeats.hpp.
#pragma once

#include <chrono>

#include "predictor/source.hpp"
#include "predictor/sources/counters.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

class EdacSource final : public Source {
 public:
  EdacSource(Place place, std::chrono::milliseconds interval)
      : place_(std::move(place)), interval_(interval) {}

  [[nodiscard]] std::string name() const override { return "edac"; }
  // kNotFound: no memory controller with a driver. kProtocol: a counter that is no number.
  Result<std::vector<Event>> poll(Time now) override;
  [[nodiscard]] Duration interval() const override { return interval_; }
  [[nodiscard]] std::string save() const override { return counters_.save(place_.boot_id()); }
  void restore(const std::string& saved) override { counters_.restore(saved, place_.boot_id()); }

 private:
  struct Dimm {
    std::string mc;         // "mc0"
    std::string name;       // "dimm3"; empty: the controller's own counts
    std::string directory;  // with its counters
    std::string label;
  };
  Status read_counter(const Dimm& dimm, bool corrected, Time now, std::vector<Event>& events);

  Place place_;
  Duration interval_;
  Counters counters_;
};

}  // namespace lifeboat::predictor
