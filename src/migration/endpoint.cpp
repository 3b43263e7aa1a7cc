#include "migration/endpoint.hpp"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <set>
#include <string_view>

#include "base/netlink.hpp"

namespace lifeboat {
namespace {

constexpr std::size_t kFabricsMax = 100;
constexpr std::size_t kHashDigits = 10;

// FNV-1a with a final mix: short and, unlike std::hash, the same everywhere for ever.
std::uint64_t stable_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccd;
  return hash ^ (hash >> 33);
}

// A name of at most 15 characters that is safe in a path and cannot be mistaken for another thing.
bool valid_interface_name(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ) return false;
  for (const char* taken : {"lo", "all", "default", ".", ".."}) {
    if (name == taken) return false;
  }
  return std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
  });
}

bool valid_host_address(const std::string& text, unsigned prefix) {
  in_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1 || prefix < 1 || prefix > 31) return false;
  const std::uint32_t value = ntohl(address.s_addr);
  const unsigned first = value >> 24;
  return first != 0 && first != 127 && first < 224;  // not "this", loopback, multicast, reserved
}

bool valid_mac(const std::string& text) {
  const auto mac = parse_mac(text);
  if (!mac || ((*mac)[0] & 1) != 0) return false;
  return std::any_of(mac->begin(), mac->end(), [](std::uint8_t byte) { return byte != 0; });
}

}  // namespace

std::string describe(const std::string& container_id, const Endpoint& endpoint) {
  return "network of container " + container_id + ", fabric " + endpoint.fabric + " (bridge " +
         endpoint.bridge + ")";
}

Status check_endpoints(const std::string& id, const std::vector<Endpoint>& endpoints) {
  if (id.empty()) return fail(Errc::kInvalid, "network of a container: the container id is empty");
  if (endpoints.empty() || endpoints.size() > kFabricsMax) {
    return fail(Errc::kInvalid, "network of container " + id + ": has " +
                                    std::to_string(endpoints.size()) + " fabrics, not 1 to 100");
  }
  std::set<std::string> fabrics;
  for (const Endpoint& e : endpoints) {
    const std::string where = describe(id, e) + ": ";
    if (!valid_interface_name(e.fabric)) {
      return fail(
          Errc::kInvalid,
          where + "'" + e.fabric + "' cannot name an interface; use 1 to 15 of A-Z a-z 0-9 - _ .");
    }
    if (!fabrics.insert(e.fabric).second) return fail(Errc::kInvalid, where + "named twice");
    if (!valid_host_address(e.address, e.prefix)) {
      return fail(Errc::kInvalid, where + "'" + e.address + "/" + std::to_string(e.prefix) +
                                      "' is not a host's IPv4 address with a prefix from 1 to 31;"
                                      " correct the container's address on this fabric");
    }
    if (!valid_mac(e.mac)) {
      return fail(Errc::kInvalid, where + "'" + e.mac + "' is not a unicast MAC address");
    }
    if (e.mtu < 576 || e.mtu > 65535) {
      return fail(Errc::kInvalid, where + "MTU " + std::to_string(e.mtu) + " is not 576 to 65535");
    }
  }
  return {};
}

std::string mac_for(const std::string& container_id, const std::string& fabric) {
  std::uint64_t hash = stable_hash(container_id + '\0' + fabric);
  std::array<std::uint8_t, 6> mac{0x02};
  for (std::size_t i = 1; i < mac.size(); ++i, hash >>= 8) mac[i] = static_cast<std::uint8_t>(hash);
  return format_mac(mac);
}

std::string host_end_name(const std::string& container_id, std::size_t index) {
  constexpr std::uint64_t kMask = (std::uint64_t{1} << (4 * kHashDigits)) - 1;
  const auto hash = static_cast<unsigned long long>(stable_hash(container_id) & kMask);
  std::array<char, 32> name;
  std::snprintf(name.data(), name.size(), "lb%010llx-%zu", hash, index);
  return name.data();
}

bool is_host_end_name(const std::string& name) {
  const std::size_t dash = 2 + kHashDigits;
  if (name.size() < dash + 2 || name.size() > dash + 3) return false;
  if (name.compare(0, 2, "lb") != 0 || name[dash] != '-') return false;
  return name.find_first_not_of("0123456789abcdef", 2) == dash &&
         name.find_first_not_of("0123456789", dash + 1) == std::string::npos;
}

std::array<std::uint8_t, 60> gratuitous_arp(const Endpoint& endpoint, ArpForm form) {
  const auto mac = parse_mac(endpoint.mac);
  ether_header ethernet{};
  ether_arp arp{};
  std::fill(std::begin(ethernet.ether_dhost), std::end(ethernet.ether_dhost), std::uint8_t{0xff});
  std::copy(mac->begin(), mac->end(), std::begin(ethernet.ether_shost));
  ethernet.ether_type = htons(ETHERTYPE_ARP);
  arp.ea_hdr.ar_hrd = htons(ARPHRD_ETHER);
  arp.ea_hdr.ar_pro = htons(ETHERTYPE_IP);
  arp.ea_hdr.ar_hln = ETH_ALEN;
  arp.ea_hdr.ar_pln = sizeof(in_addr);
  arp.ea_hdr.ar_op = htons(static_cast<std::uint16_t>(form));
  std::copy(mac->begin(), mac->end(), std::begin(arp.arp_sha));
  if (form == ArpForm::kReply) std::fill_n(std::begin(arp.arp_tha), ETH_ALEN, std::uint8_t{0xff});
  (void)::inet_pton(AF_INET, endpoint.address.c_str(), &arp.arp_spa);
  (void)::inet_pton(AF_INET, endpoint.address.c_str(), &arp.arp_tpa);
  std::array<std::uint8_t, 60> frame{};
  std::memcpy(frame.data(), &ethernet, sizeof(ethernet));
  std::memcpy(frame.data() + sizeof(ethernet), &arp, sizeof(arp));
  return frame;
}

}  // namespace lifeboat
