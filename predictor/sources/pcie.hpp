// pcie.hpp - errors of PCI Express devices, as the kernel counts them for each (Advanced Error
// Reporting): /sys/bus/pci/devices/*/aer_dev_{correctable,nonfatal,fatal}, lines "NAME count" and a
// total. The kernel's log tells of the same errors: see repeats.hpp.
#pragma once

#include <chrono>

#include "predictor/source.hpp"
#include "predictor/sources/counters.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

class PcieSource final : public Source {
 public:
  PcieSource(Place place, std::chrono::milliseconds interval)
      : place_(std::move(place)), interval_(interval) {}

  [[nodiscard]] std::string name() const override { return "pcie"; }
  // kNotFound: no device with such counts. kProtocol: counts that are none.
  Result<std::vector<Event>> poll(Time now) override;
  [[nodiscard]] Duration interval() const override { return interval_; }
  [[nodiscard]] std::string save() const override { return counters_.save(place_.boot_id()); }
  void restore(const std::string& saved) override { counters_.restore(saved, place_.boot_id()); }

 private:
  Status read_device(const std::string& device, const std::string& severity, Time now,
                     std::vector<Event>& events);

  Place place_;
  Duration interval_;
  Counters counters_;
  bool found_ = false;  // any counts, at this poll
};

}  // namespace lifeboat::predictor
