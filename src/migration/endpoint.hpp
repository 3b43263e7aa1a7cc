// endpoint.hpp - what a container is called on the network, as data: addresses, names, frames.
//
// Pure functions; address.hpp puts them on real interfaces. Everything derived here is stable:
// every node and every release derives the same from the same container id, or a container that
// moved would be another one to its peers.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace lifeboat {

struct Endpoint {
  std::string fabric;   // and name of the interface in the container: at most 15 characters
  std::string bridge;   // on this node
  std::string mac;      // unicast; see mac_for()
  std::string address;  // IPv4, "10.2.1.5"
  unsigned prefix = 24;
  unsigned mtu = 1500;  // bytes; the fabric's
};

// kInvalid, with the container, the fabric and what is wrong.
[[nodiscard]] Status check_endpoints(const std::string& container_id,
                                     const std::vector<Endpoint>& endpoints);

// "network of container c1, fabric 1g (bridge br-1g)": how every error of an endpoint begins.
[[nodiscard]] std::string describe(const std::string& container_id, const Endpoint& endpoint);

// Locally administered unicast ("02:..."), from 40 bits of a hash of both.
[[nodiscard]] std::string mac_for(const std::string& container_id, const std::string& fabric);

// Name of the node's end of a fabric's veth pair: "lb" + 10 hex digits + "-" + index (0 to 99).
[[nodiscard]] std::string host_end_name(const std::string& container_id, std::size_t index);
[[nodiscard]] bool is_host_end_name(const std::string& name);

// "Address is at mac", asked by nobody, to everybody. Some listeners learn only from the request
// form, some only from the reply form: send both. A frame of the smallest legal size.
enum class ArpForm : std::uint16_t { kRequest = 1, kReply = 2 };
[[nodiscard]] std::array<std::uint8_t, 60> gratuitous_arp(const Endpoint& endpoint, ArpForm form);

}  // namespace lifeboat
