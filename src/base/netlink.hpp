// netlink.hpp - the few rtnetlink requests Lifeboat makes, over libnl-3.
//
// A Netlink talks to the network namespace of the thread that opened it, for ever: open it inside
// a namespace (netns.hpp) and use it from anywhere. Requests are synchronous and take 10 to 50
// microseconds (removing a link: about 25 ms, it waits for every user of it). Not thread-safe.
//
// Messages are built with libnl's core rather than with its link objects: those know neither the
// classifier of plug.hpp nor a bridge port's state, and turn the kernel's errno and explanation
// into a vague code. Here an error reads "what: strerror (what the kernel says)".
//
// Errors: kNotFound no such link, kConflict it exists already, kSystem anything else.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/result.hpp"

struct nl_msg;
struct nl_sock;
struct nlmsghdr;

namespace lifeboat {

// One request under construction. Strings are sent with their final zero.
class NetlinkRequest {
 public:
  NetlinkRequest(int type, int flags);

  // The fixed header that follows (ifinfomsg, ifaddrmsg, tcmsg).
  template <class Header>
  NetlinkRequest& header(const Header& header) {
    static_assert(std::is_trivially_copyable_v<Header>);
    return append(&header, sizeof(header));
  }
  NetlinkRequest& text(int attribute, const std::string& value);
  NetlinkRequest& u32(int attribute, std::uint32_t value);
  NetlinkRequest& u16(int attribute, std::uint16_t value);
  NetlinkRequest& bytes(int attribute, const void* data, std::size_t size);
  // Everything `fill` adds goes inside `attribute`; a header first where the attribute wants one.
  NetlinkRequest& nest(int attribute, const std::function<void(NetlinkRequest&)>& fill);

  [[nodiscard]] nl_msg* get() const { return message_.get(); }

 private:
  struct Free {
    void operator()(nl_msg* message) const;
  };
  NetlinkRequest& append(const void* data, std::size_t size);

  std::unique_ptr<nl_msg, Free> message_;
};

struct NetDevice {
  int index = 0;
  std::string name;
  std::string kind;  // "veth", "bridge"; empty for lo and hardware
  std::string mac;   // "02:1a:..."
  unsigned mtu = 0;
  bool up = false;                     // administratively
  bool running = false;                // up, and the link watch has seen its carrier
  int master = 0;                      // index of the bridge it belongs to, or 0
  int peer = 0;                        // veth: index of the other end, in the other end's namespace
  std::optional<unsigned> port_state;  // of a bridge port: BR_STATE_*
  bool spanning_tree = false;          // of a bridge: STP is on
  std::uint64_t tx_dropped = 0;        // frames it was to send and dropped
};

struct VethPair {
  std::string name, mac;            // the end in this namespace
  std::string peer_name, peer_mac;  // the end in `peer_netns`
  int peer_netns = -1;
  unsigned mtu = 1500;
};

class Netlink {
 public:
  // NETLINK_ROUTE for the requests below, or another family for request() alone.
  static Result<Netlink> open(int family = NETLINK_ROUTE);

  Result<NetDevice> link(const std::string& name);
  Result<NetDevice> link(int index);
  Result<std::vector<NetDevice>> links();
  Status add_veth(const VethPair& pair);  // both ends down
  Status set_master(int index, int bridge_index);
  Status set_up(int index, bool up = true);
  Status set_mtu(int index, unsigned mtu);
  Status remove_link(int index);  // a link that is gone already is no error
  Status add_address(int index, const std::string& ipv4, unsigned prefix);
  Result<std::vector<std::string>> addresses(int index);  // IPv4, "10.2.1.5/24"

  // Any other request. `what` begins the error message; replies go to `on_reply`.
  using Reply = std::function<void(nlmsghdr*)>;
  Status request(const NetlinkRequest& request, const std::string& what,
                 const Reply& on_reply = {});

 private:
  struct Free {
    void operator()(nl_sock* socket) const;
  };
  explicit Netlink(nl_sock* socket) : socket_(socket) {}

  std::unique_ptr<nl_sock, Free> socket_;
};

// "02:1a:..." <-> six bytes. nullopt: not a MAC address.
[[nodiscard]] std::optional<std::vector<std::uint8_t>> parse_mac(const std::string& text);
[[nodiscard]] std::string format_mac(std::span<const std::uint8_t> bytes);

}  // namespace lifeboat
