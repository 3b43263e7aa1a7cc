#include "migration/endpoint.hpp"

#include <gtest/gtest.h>

#include "base/netlink.hpp"

namespace lifeboat {
namespace {

std::vector<Endpoint> two_fabrics() {
  return {{"1g", "br-1g", "02:00:00:00:00:01", "10.1.0.5", 24, 1500},
          {"10g", "br-10g", "02:00:00:00:00:02", "10.2.0.5", 16, 9000}};
}

// The message for endpoints whose second one was changed.
template <class Change>
std::string refusal(Change change) {
  auto endpoints = two_fabrics();
  change(endpoints[1]);
  const Status checked = check_endpoints("c1", endpoints);
  if (checked) return "accepted";
  EXPECT_EQ(checked.error().code, Errc::kInvalid);
  return checked.error().message;
}

const std::string kPlace = "network of container c1, fabric 10g (bridge br-10g): ";

TEST(CheckEndpoints, AcceptsGoodOnes) {
  EXPECT_TRUE(check_endpoints("c1", two_fabrics()).has_value());
  EXPECT_EQ(refusal([](Endpoint& e) { e.fabric = "fifteen-letters"; }), "accepted");
  EXPECT_EQ(refusal([](Endpoint& e) { e.mac = "FE:0A:00:00:00:02"; }), "accepted");
}

TEST(CheckEndpoints, NamesContainerFabricAndMistake) {
  EXPECT_EQ(refusal([](Endpoint& e) { e.address = "10.2.0.300"; }),
            kPlace +
                "'10.2.0.300/16' is not a host's IPv4 address with a prefix from 1 to 31;"
                " correct the container's address on this fabric");
  EXPECT_EQ(refusal([](Endpoint& e) { e.mac = "03:00:00:00:00:01"; }),
            kPlace + "'03:00:00:00:00:01' is not a unicast MAC address");
  EXPECT_EQ(refusal([](Endpoint& e) { e.mtu = 68; }), kPlace + "MTU 68 is not 576 to 65535");
  EXPECT_EQ(refusal([](Endpoint& e) { e.fabric = "1g"; }),
            "network of container c1, fabric 1g (bridge br-10g): named twice");
  EXPECT_EQ(check_endpoints("", two_fabrics()).error().message,
            "network of a container: the container id is empty");
  EXPECT_EQ(check_endpoints("c1", {}).error().message,
            "network of container c1: has 0 fabrics, not 1 to 100");
}

TEST(CheckEndpoints, RefusesWhatWouldNotWork) {
  for (const char* name :
       {"", "lo", "all", "default", ".", "..", "a/b", "a b", "sixteen-letters-"}) {
    EXPECT_NE(refusal([&](Endpoint& e) { e.fabric = name; }), "accepted") << name;
  }
  for (const char* address : {"", "x", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255",
                              "10.2.0.5/24", "fe80::1"}) {
    EXPECT_NE(refusal([&](Endpoint& e) { e.address = address; }), "accepted") << address;
  }
  for (const unsigned prefix : {0u, 32u, 33u}) {
    EXPECT_NE(refusal([&](Endpoint& e) { e.prefix = prefix; }), "accepted") << prefix;
  }
  for (const char* mac : {"", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "02:00:00:00:00",
                          "02:00:00:00:00:0g", "02-00-00-00-00-01", "02:00:00:00:00:01 "}) {
    EXPECT_NE(refusal([&](Endpoint& e) { e.mac = mac; }), "accepted") << mac;
  }
}

// The values themselves: a release that derived others would lose every running container.
TEST(Names, AreStable) {
  EXPECT_EQ(host_end_name("job7.rank3", 0), "lbd5d630252b-0");
  EXPECT_EQ(mac_for("job7.rank3", "1g"), "02:e8:a3:73:e5:01");
  EXPECT_EQ(mac_for("job7.rank3", "10g"), "02:52:79:07:8f:d7");
  EXPECT_NE(mac_for("job7.rank4", "1g"), mac_for("job7.rank3", "1g"));
  EXPECT_NE(host_end_name("job7.rank4", 0), host_end_name("job7.rank3", 0));
}

TEST(Names, HostEndsAreRecognised) {
  EXPECT_EQ(host_end_name("job7.rank3", 99).size(), 15u);
  EXPECT_TRUE(is_host_end_name(host_end_name("job7.rank3", 0)));
  EXPECT_TRUE(is_host_end_name(host_end_name("job7.rank3", 99)));
  for (const char* name : {"", "lo", "lb", "lb0123456789", "lb0123456789-", "lb012345678g-0",
                           "lb0123456789-x", "lb0123456789-123", "xb0123456789-0"}) {
    EXPECT_FALSE(is_host_end_name(name)) << name;
  }
}

TEST(GratuitousArp, IsAsRfc5227HasIt) {
  const auto request = gratuitous_arp(two_fabrics()[0], ArpForm::kRequest);
  const std::vector<std::uint8_t> expected = {
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,  0, 0, 0, 0, 1, 0x08, 0x06,  // to all, from us, ARP
      0,    1,    0x08, 0,    6,    4,    0,  1,                          // Ethernet, IPv4, request
      2,    0,    0,    0,    0,    1,    10, 1, 0, 5,                    // sender
      0,    0,    0,    0,    0,    0,    10, 1, 0, 5};  // target: the same address
  EXPECT_EQ(std::vector<std::uint8_t>(request.begin(), request.begin() + 42), expected);
  const auto reply = gratuitous_arp(two_fabrics()[0], ArpForm::kReply);
  EXPECT_EQ(reply[21], 2);
}

TEST(Mac, ParsesAndFormats) {
  const auto mac = parse_mac("02:1a:ff:00:9B:01");
  ASSERT_TRUE(mac.has_value());
  EXPECT_EQ(format_mac(*mac), "02:1a:ff:00:9b:01");
  EXPECT_FALSE(parse_mac("2:1a:ff:00:9b:001").has_value());
}

}  // namespace
}  // namespace lifeboat
