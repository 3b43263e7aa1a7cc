// sysfs and procfs of a node whose hardware, or whose driver, writes nonsense: every source that
// counts from files, twice, so that there is something to compare with.
#include "fuzz.hpp"
#include "predictor/sources/edac.hpp"
#include "predictor/sources/network.hpp"
#include "predictor/sources/pcie.hpp"
#include "predictor/sources/pressure.hpp"
#include "predictor/sources/thermal.hpp"

namespace {

using namespace lifeboat;
using namespace lifeboat::predictor;

const char* const kFiles[] = {
    "/sys/devices/system/edac/mc/mc0/dimm0/dimm_ce_count",
    "/sys/devices/system/edac/mc/mc0/dimm0/dimm_ue_count",
    "/sys/devices/system/edac/mc/mc0/dimm0/dimm_label",
    "/sys/devices/system/edac/mc/mc0/ce_noinfo_count",
    "/sys/bus/pci/devices/0000:00:01.0/aer_dev_correctable",
    "/sys/bus/pci/devices/0000:00:01.0/aer_dev_fatal",
    "/sys/class/thermal/thermal_zone0/temp",
    "/sys/class/thermal/thermal_zone0/type",
    "/sys/class/thermal/thermal_zone0/trip_point_0_temp",
    "/sys/class/thermal/thermal_zone0/trip_point_0_type",
    "/sys/class/hwmon/hwmon0/temp1_input",
    "/sys/class/hwmon/hwmon0/temp1_crit",
    "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
    "/proc/pressure/memory",
    "/proc/pressure/io",
    "/sys/class/net/eth0/carrier_changes",
    "/sys/class/net/eth0/operstate",
    "/sys/class/net/eth0/statistics/rx_errors",
    "/proc/sys/kernel/random/boot_id",
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::Directory root;
  FuzzedDataProvider input(data, size);
  const Place place{root.path(), "n1"};
  std::vector<std::unique_ptr<Source>> sources;
  sources.push_back(std::make_unique<EdacSource>(place, std::chrono::seconds(10)));
  sources.push_back(std::make_unique<PcieSource>(place, std::chrono::seconds(10)));
  sources.push_back(std::make_unique<ThermalSource>(place, ThermalOptions()));
  PressureOptions pressure;
  pressure.cpu = 1;
  sources.push_back(std::make_unique<PressureSource>(place, pressure));
  NetworkOptions network;
  network.interfaces = {"eth0"};
  sources.push_back(std::make_unique<NetworkSource>(place, network));
  Time now{std::chrono::seconds(1'700'000'000)};
  const std::string saved = input.ConsumeRandomLengthString(64);
  for (const auto& source : sources) source->restore(saved);
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < 4; ++i)
      root.write(input.PickValueInArray(kFiles), input.ConsumeRandomLengthString(40));
    now += std::chrono::minutes(10);
    for (const auto& source : sources) {
      const auto events = source->poll(now);
      fuzz::require_good(events);
      if (!events) continue;
      for (const Event& event : *events) {
        fuzz::require(event.node == "n1" && event.count > 0 && event.text.size() <= kTextMax,
                      "an event is one");
        fuzz::require(parse_replay_line(to_replay_line(event)).has_value(),
                      "an event comes back from its line");
      }
      source->restore(source->save());
    }
  }
  return 0;
}
