// disk_health.hpp - what disks say of themselves: SMART of SATA and SAS disks (`smartctl -j -a`),
// and the health log of NVMe controllers (`nvme smart-log -o json`; where there is no nvme,
// smartctl).
//
// A condition (SMART says that the disk fails, an NVMe warning bit, a worn-out disk) is told at
// every round while it lasts; counts (reallocated, pending and uncorrectable sectors, media errors)
// when they grow. One disk is asked after the other; none of it waits.
#pragma once

#include <chrono>

#include "predictor/source.hpp"
#include "predictor/sources/counters.hpp"
#include "predictor/sources/program.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

struct DiskHealth {
  struct Condition {
    Severity severity = Severity::kWarning;
    std::string text;
  };
  std::vector<Condition> conditions;
  std::vector<std::pair<std::string, std::uint64_t>> counters;
};

// kProtocol: not what the program writes, or it says that it could not read the disk.
Result<DiskHealth> parse_smartctl(std::string_view text);
Result<DiskHealth> parse_nvme_smart_log(std::string_view text);

struct DiskHealthOptions {
  std::chrono::milliseconds interval{1'800'000};  // from the end of one round to the next
  std::chrono::milliseconds limit{30'000};        // of one program
  std::string smartctl = "smartctl";
  std::string nvme = "nvme";
};

class DiskHealthSource final : public Source {
 public:
  enum class Which { kSmart, kNvme };

  DiskHealthSource(Place place, Which which, DiskHealthOptions options)
      : place_(std::move(place)), which_(which), options_(std::move(options)) {}

  [[nodiscard]] std::string name() const override {
    return which_ == Which::kSmart ? "smart" : "nvme";
  }
  // kNotFound: no such disk, or no program that could ask it.
  Result<std::vector<Event>> poll(Time now) override;
  // Often while a program runs.
  [[nodiscard]] Duration interval() const override;
  // Disks count for their whole life, whatever the boot.
  [[nodiscard]] std::string save() const override { return counters_.save(""); }
  void restore(const std::string& saved) override { counters_.restore(saved, ""); }

 private:
  Status find_disks();
  Status start_next();
  Status judge(const Program::Output& output, Time now, std::vector<Event>& events);

  Place place_;
  Which which_;
  DiskHealthOptions options_;
  std::vector<std::string> waiting_;  // of this round, the next one last
  std::string disk_;                  // that is being asked
  bool by_nvme_ = false;              // by the nvme program
  Program program_;
  Counters counters_;
};

}  // namespace lifeboat::predictor
