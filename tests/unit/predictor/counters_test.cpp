// Sources that watch counters of sysfs and procfs: network, PCIe, heat, pressure.
#include "predictor/sources/network.hpp"
#include "predictor/sources/pcie.hpp"
#include "predictor/sources/pressure.hpp"
#include "predictor/sources/thermal.hpp"
#include "unit/predictor/tree.hpp"

namespace lifeboat::predictor {
namespace {

const std::string kEth = "/sys/class/net/eth0";
const std::string kPort = "/sys/class/infiniband/mlx5_0/ports/1/counters";

class Network : public ::testing::Test {
 protected:
  Network() {
    tree.boot("b1");
    tree.write(kEth + "/device/vendor", "0x15b3\n");
    tree.write(kEth + "/carrier_changes", "2\n");
    tree.write(kEth + "/operstate", "up\n");
    tree.write(kEth + "/statistics/rx_errors", "3\n");
    tree.write(kEth + "/statistics/rx_crc_errors", "3\n");
    tree.write("/sys/class/net/br0/statistics/rx_errors", "0\n");
    tree.write(kPort + "/symbol_error", "15\n");
    tree.write(kPort + "/link_downed", "0\n");
  }
  Tree tree;
};

TEST_F(Network, TellsErrorsOnceAndLostCarriers) {
  NetworkSource network(tree.place(), {});
  EXPECT_TRUE(network.poll(kNow)->empty());
  tree.write(kEth + "/statistics/rx_errors", "10\n");
  tree.write(kEth + "/statistics/rx_crc_errors", "9\n");
  tree.write("/sys/class/net/br0/statistics/rx_errors", "7\n");  // mirrors others
  tree.write(kPort + "/link_downed", "1\n");
  tree.write(kEth + "/carrier_changes", "3\n");
  tree.write(kEth + "/operstate", "down\n");
  const auto events = network.poll(kNow);
  ASSERT_EQ(events->size(), 3u);
  EXPECT_EQ(events->at(0).text, "eth0: rx_errors +7, rx_crc_errors +6");
  EXPECT_EQ(events->at(0).count, 7u);
  EXPECT_EQ(events->at(0).kind, EventKind::kNetwork);
  EXPECT_EQ(events->at(0).severity, Severity::kWarning);
  EXPECT_EQ(events->at(1).location, "mlx5_0/1");
  EXPECT_EQ(events->at(1).severity, Severity::kError);
  EXPECT_EQ(events->at(2).text, "eth0: carrier changed 1 times, and is lost");
  EXPECT_EQ(events->at(2).severity, Severity::kError);
}

TEST_F(Network, WatchesInterfacesByNameAndGoesOnAfterARestart) {
  NetworkOptions options;
  options.interfaces = {"br0"};
  NetworkSource before(tree.place(), options);
  (void)before.poll(kNow);
  tree.write("/sys/class/net/br0/statistics/rx_errors", "7\n");
  NetworkSource after(tree.place(), options);
  after.restore(before.save());
  const auto events = after.poll(kNow);
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ(events->at(0).location, "br0");
}

TEST_F(Network, ConcludesNothingFromGarbage) {
  NetworkSource network(tree.place(), {});
  (void)network.poll(kNow);
  tree.write(kEth + "/statistics/rx_errors", garbage(200));
  EXPECT_NE(error_of(network.poll(kNow)).find("rx_errors holds no number"), std::string::npos);
  tree.write(kEth + "/statistics/rx_errors", "1\n");  // backwards
  tree.write(kEth + "/carrier_changes", "0\n");
  EXPECT_TRUE(network.poll(kNow)->empty());
  Tree empty;
  NetworkSource none(empty.place(), {});
  EXPECT_EQ(none.poll(kNow).error().code, Errc::kNotFound);
}

TEST(Pcie, TellsWhatGrewPerDeviceAndSeverity) {
  Tree tree;
  tree.boot("b1");
  const std::string file = "/sys/bus/pci/devices/0000:3b:00.0/aer_dev_correctable";
  PcieSource pcie(tree.place(), std::chrono::seconds(10));
  EXPECT_EQ(pcie.poll(kNow).error().code, Errc::kNotFound);
  tree.write(file, "RxErr 0\nBadTLP 4\nTOTAL_ERR_COR 4\n");
  EXPECT_TRUE(pcie.poll(kNow)->empty());
  tree.write(file, "RxErr 1\nBadTLP 6\nTOTAL_ERR_COR 7\n");
  const auto events = pcie.poll(kNow);
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ(events->at(0).text, "3 correctable PCIe errors of 0000:3b:00.0: RxErr +1, BadTLP +2");
  EXPECT_EQ(events->at(0).kind, EventKind::kBus);
  EXPECT_EQ(events->at(0).count, 3u);
  EXPECT_EQ(detail(events->at(0), "severity"), "correctable");
  tree.write(file, "RxErr 0\nBadTLP 0\nTOTAL_ERR_COR 0\n");
  EXPECT_TRUE(pcie.poll(kNow)->empty());
  for (const std::string& bad : {garbage(500), std::string("RxErr\n"), std::string("RxErr -3\n")}) {
    tree.write(file, bad);
    EXPECT_NE(error_of(pcie.poll(kNow)).find("holds no counts"), std::string::npos);
  }
}

class Thermal : public ::testing::Test {
 protected:
  Thermal() {
    tree.boot("b1");
    tree.write(zone + "/type", "x86_pkg_temp\n");
    tree.write(zone + "/temp", "71000\n");
    tree.write(zone + "/trip_point_0_type", "critical\n");
    tree.write(zone + "/trip_point_0_temp", "100000\n");
    for (const std::string cpu : {"cpu0", "cpu1"}) {
      tree.write(cpus + cpu + "/topology/physical_package_id", "0\n");
      tree.write(cpus + cpu + "/thermal_throttle/package_throttle_count", "12\n");
      tree.write(cpus + cpu + "/thermal_throttle/core_throttle_count", "5\n");
    }
  }
  const std::string zone = "/sys/class/thermal/thermal_zone0";
  const std::string cpus = "/sys/devices/system/cpu/";
  Tree tree;
};

TEST_F(Thermal, TellsHeatNearALimitAndAgainWhileItLasts) {
  ThermalSource thermal(tree.place(), {});
  EXPECT_TRUE(thermal.poll(kNow)->empty());
  tree.write(zone + "/temp", "96000\n");
  const auto events = thermal.poll(kNow);
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ(events->at(0).text, "thermal_zone0/x86_pkg_temp is at 96 C, its limit is 100 C");
  EXPECT_EQ(events->at(0).severity, Severity::kWarning);
  EXPECT_TRUE(thermal.poll(kNow + std::chrono::seconds(10))->empty());
  tree.write(zone + "/temp", "101000\n");
  const auto later = thermal.poll(kNow + ThermalSource::kRepeat);
  ASSERT_EQ(later->size(), 1u);
  EXPECT_EQ(later->at(0).severity, Severity::kCritical);
}

TEST_F(Thermal, CountsThrottlingOfAPackageOnce) {
  ThermalSource thermal(tree.place(), {});
  (void)thermal.poll(kNow);
  for (const std::string cpu : {"cpu0", "cpu1"}) {
    tree.write(cpus + cpu + "/thermal_throttle/package_throttle_count", "15\n");
  }
  tree.write(cpus + "cpu1/thermal_throttle/core_throttle_count", "6\n");
  const auto events = thermal.poll(kNow);
  ASSERT_EQ(events->size(), 2u);
  EXPECT_EQ(events->at(0).text, "cpu0 was slowed down for heat of its package 3 times");
  EXPECT_EQ(events->at(0).count, 3u);
  EXPECT_EQ(events->at(1).location, "cpu1");
}

TEST_F(Thermal, IgnoresReadingsThatCannotBe) {
  ThermalSource thermal(tree.place(), {});
  (void)thermal.poll(kNow);
  tree.write(cpus + "cpu0/thermal_throttle/core_throttle_count", "-9\n");
  tree.write(cpus + "cpu1/thermal_throttle/core_throttle_count", garbage(90));
  for (const std::string& bad : {garbage(50), std::string("1e9"), std::string("99999999"),
                                 std::string("nan"), std::string("-274000"), std::string()}) {
    tree.write(zone + "/temp", bad);
    const auto events = thermal.poll(kNow);
    ASSERT_TRUE(events);
    for (const Event& event : *events) ADD_FAILURE() << bad << " gives " << event.text;
  }
}

TEST(Pressure, TellsWhatIsBeyondItsLimitAndOnlyThat) {
  Tree tree;
  PressureSource pressure(tree.place(), {});
  EXPECT_EQ(pressure.poll(kNow).error().code, Errc::kNotFound);
  const std::string quiet = "some avg10=0.00 avg60=99.00 avg300=0.00 total=1\n"
                            "full avg10=99.00 avg60=19.99 avg300=0.00 total=1\n";
  tree.write("/proc/pressure/memory", quiet);
  tree.write("/proc/pressure/io", quiet);
  EXPECT_TRUE(pressure.poll(kNow)->empty());
  tree.write("/proc/pressure/memory", "full avg10=0.00 avg60=20.50 avg300=0.00 total=1\n");
  const auto events = pressure.poll(kNow);
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ(events->at(0).text, "memory pressure: tasks waited 20.5 % of a minute");
  EXPECT_EQ(events->at(0).kind, EventKind::kPressure);
  EXPECT_TRUE(pressure.poll(kNow + std::chrono::seconds(10))->empty());
  EXPECT_EQ(pressure.poll(kNow + PressureSource::kRepeat)->size(), 1u);
  for (const std::string& bad : {garbage(300), std::string("full avg60=900\n"), std::string("full avg60=\n")}) {
    tree.write("/proc/pressure/memory", bad);
    EXPECT_NE(error_of(pressure.poll(kNow)).find("holds no pressure"), std::string::npos);
  }
}

}  // namespace
}  // namespace lifeboat::predictor
