#include "migration/address.hpp"

#include <linux/if_bridge.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>

#include <algorithm>
#include <thread>

#include "base/netns.hpp"

namespace lifeboat {
namespace {

using std::chrono::milliseconds;

// How long a connect() or an address resolution keeps trying a frozen container: what Linux does
// by default for a connect (127 s) when nothing shortens its pauses.
constexpr milliseconds kPatience{127'000};
constexpr milliseconds kArpPause{100};
// A port forwards as soon as the kernel's link watch has seen its carrier: 1 ms, rarely more.
constexpr milliseconds kForwardingDeadline{2'000};

struct Setting {
  std::string key, value;
};

Result<NetDevice> find_bridge(Netlink& node, const std::string& name) {
  Result<NetDevice> bridge = node.link(name);
  if (!bridge && bridge.error().code == Errc::kNotFound) {
    return fail(Errc::kNotFound,
                "this node has no bridge " + name +
                    "; make it, or correct the fabric's bridge in the configuration");
  }
  if (!bridge) return bridge;
  if (bridge->kind != "bridge") return fail(Errc::kInvalid, name + " is not a bridge");
  if (!bridge->up) return fail(Errc::kUnavailable, name + " is down; take it up");
  if (bridge->spanning_tree) {
    return fail(Errc::kRefused, name +
                                    " runs STP, which would hold every new port back for half"
                                    " a minute; switch STP off");
  }
  return bridge;
}

// IPv6 goes first: no router solicitation or MLD report may ever leave.
std::vector<Setting> namespace_settings(const TcpSettings& tcp) {
  return {
      {"net/ipv6/conf/all/disable_ipv6", "1"},
      {"net/ipv6/conf/default/disable_ipv6", "1"},
      // Two fabrics, two interfaces: each answers for, and speaks with, its own address only.
      {"net/ipv4/conf/all/arp_ignore", "1"},
      {"net/ipv4/conf/default/arp_ignore", "1"},
      {"net/ipv4/conf/all/arp_announce", "2"},
      {"net/ipv4/conf/default/arp_announce", "2"},
      {"net/ipv4/conf/all/accept_redirects", "0"},
      {"net/ipv4/conf/default/accept_redirects", "0"},
      {"net/ipv4/tcp_retries2", std::to_string(tcp.retries)},
      {"net/ipv4/tcp_thin_linear_timeouts", "1"},
      // For sockets with keepalive that do not say how many probes: a freeze is no death.
      {"net/ipv4/tcp_keepalive_probes", "127"},
  };
}

// Address resolution on one interface (a new namespace has no default for these). After 3
// unanswered requests, a second apart, Linux fails a connect() to a frozen container with "No route
// to host". Asking on and on, what waits goes out the moment the container is announced; asking
// often, a restored container that spoke before it was plugged in has its answer soon after.
std::vector<Setting> interface_settings(const std::string& interface) {
  const std::string directory = "net/ipv4/neigh/" + interface;
  return {{directory + "/retrans_time_ms", std::to_string(kArpPause.count())},
          {directory + "/mcast_solicit", std::to_string(kPatience / kArpPause)}};
}

// Shorter pauses spend the tries of a handshake sooner: give it more of them.
std::vector<Setting> rto_max_settings(const TcpSettings& tcp) {
  const auto tries = std::clamp<long>(kPatience / tcp.rto_max, 6, 127);
  return {{"net/ipv4/tcp_syn_retries", std::to_string(tries)},
          {"net/ipv4/tcp_synack_retries", std::to_string(tries)}};
}

Status apply(const std::vector<Setting>& settings) {
  for (const Setting& setting : settings) {
    Status written = write_sysctl(setting.key, setting.value);
    // A kernel without the key (no IPv6, for example) has nothing to be told.
    if (!written && written.error().code != Errc::kNotFound) return written;
  }
  return {};
}

Result<Fd> open_sending_socket() {
  Fd socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));  // receives nothing
  if (!socket) return fail_errno("open a packet socket");
  return socket;
}

// Waits until the bridge passes frames of this port.
Status await_forwarding(Netlink& node, int link_index, int bridge_index) {
  const auto deadline = std::chrono::steady_clock::now() + kForwardingDeadline;
  while (true) {
    TRY(const NetDevice port, node.link(link_index));
    if (port.master != bridge_index) {
      return fail(Errc::kSystem, port.name + " is not a port of the bridge any more");
    }
    if (port.port_state == BR_STATE_FORWARDING) return {};
    if (std::chrono::steady_clock::now() > deadline) {
      return fail(Errc::kTimeout, port.name +
                                      " does not forward; is the bridge up and without STP,"
                                      " and the container's interface up?");
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
}

}  // namespace

Result<ContainerNet> ContainerNet::create(const std::string& container_id,
                                          const std::vector<Endpoint>& endpoints,
                                          const TcpSettings& tcp, NetPurpose purpose) {
  CHECK_OK(check_endpoints(container_id, endpoints));
  if (tcp.rto_max < milliseconds(1000) || tcp.rto_max > milliseconds(120'000) || tcp.retries < 1 ||
      tcp.retries > 255) {
    return fail(Errc::kInvalid, "network of container " + container_id +
                                    ": rto_max must be 1 to 120 s and retries 1 to 255");
  }
  ContainerNet net;
  net.container_id_ = container_id;
  TRY(net.node_, Netlink::open());
  TRY(net.wire_, open_sending_socket());
  std::vector<Port> ports;
  for (const Endpoint& endpoint : endpoints) {
    Result<NetDevice> bridge = find_bridge(*net.node_, endpoint.bridge);
    if (!bridge) {
      return tl::unexpected<Error>(bridge.error().context(describe(container_id, endpoint)));
    }
    const std::string host_end = host_end_name(container_id, ports.size());
    ports.push_back({endpoint, host_end, 0, 0, bridge->index});
  }
  if (Status built = net.build_namespace(tcp); !built) {
    return tl::unexpected<Error>(built.error().context("network of container " + container_id));
  }
  if (purpose == NetPurpose::kStart) CHECK_OK(net.switch_loopback(true));
  for (Port& port : ports) {
    const std::string where = describe(container_id, port.endpoint);
    Status built = net.build_port(std::move(port), purpose);
    if (!built) return tl::unexpected<Error>(built.error().context(where));
  }
  return net;
}

Status ContainerNet::build_namespace(const TcpSettings& tcp) {
  TRY(netns_, make_netns([&]() -> Status {
        CHECK_OK(apply(namespace_settings(tcp)));
        Status limited =
            write_sysctl("net/ipv4/tcp_rto_max_ms", std::to_string(tcp.rto_max.count()));
        if (!limited && limited.error().code != Errc::kNotFound) return limited;
        has_rto_max_ = limited.has_value();
        if (has_rto_max_) CHECK_OK(apply(rto_max_settings(tcp)));
        TRY(inner_, Netlink::open());
        TRY(diag_, Netlink::open(NETLINK_SOCK_DIAG));
        TRY(arp_, open_sending_socket());
        TRY(const NetDevice loopback, inner_->link("lo"));
        loopback_index_ = loopback.index;
        CHECK_OK(install_plug(*inner_, loopback_index_));
        return inner_->set_up(loopback_index_);
      }));
  return {};
}

// The order matters: plug before bridge, bridge before carrier, address when all that holds.
Status ContainerNet::build_port(Port port, NetPurpose purpose) {
  VethPair pair;
  pair.name = port.host_end;
  // fe: is above any other address, so the bridge never takes a passing container's MAC for its
  // own.
  pair.mac = mac_for(container_id_, port.endpoint.fabric + "/host");
  pair.mac.replace(0, 2, "fe");
  pair.peer_name = port.endpoint.fabric;
  pair.peer_mac = port.endpoint.mac;
  pair.peer_netns = netns_.get();
  pair.mtu = port.endpoint.mtu;
  Status made = node_->add_veth(pair);
  if (!made && made.error().code == Errc::kConflict) {
    return fail(Errc::kConflict, "host end " + port.host_end +
                                     " exists already; the container lives"
                                     " here (adopt it) or has left it behind (remove it)");
  }
  if (!made) return made;
  TRY(const NetDevice host, node_->link(port.host_end));
  port.host_index = host.index;
  ports_.push_back(port);  // from here on the destructor removes it
  TRY(const NetDevice end, inner_->link(port.endpoint.fabric));
  ports_.back().inner_index = end.index;
  CHECK_OK(in_netns(netns_.get(), [&] { return apply(interface_settings(end.name)); }));

  CHECK_OK(install_plug(*node_, host.index));
  CHECK_OK(apply({{"net/ipv6/conf/" + port.host_end + "/disable_ipv6", "1"}}));
  CHECK_OK(node_->set_master(host.index, port.bridge_index));
  CHECK_OK(node_->set_up(host.index));
  if (purpose == NetPurpose::kRestore) {
    CHECK_OK(inner_->set_mtu(end.index, port.endpoint.mtu - 1));
  }
  CHECK_OK(inner_->set_up(end.index));
  CHECK_OK(inner_->add_address(end.index, port.endpoint.address, port.endpoint.prefix));
  CHECK_OK(await_forwarding(*node_, host.index, port.bridge_index));
  TRY(const PlugState plugged, plug_state(*node_, host.index));
  if (plugged != PlugState::kUnplugged) return fail(Errc::kSystem, "the plug did not hold");
  return {};
}

Result<ContainerNet> ContainerNet::adopt(const std::string& container_id,
                                         const std::vector<Endpoint>& endpoints, pid_t pid) {
  Result<Fd> netns = open_netns(pid);
  if (netns) return adopt(container_id, endpoints, *std::move(netns));
  return tl::unexpected<Error>(netns.error().context("network of container " + container_id));
}

Result<ContainerNet> ContainerNet::adopt(const std::string& container_id,
                                         const std::vector<Endpoint>& endpoints, Fd netns) {
  CHECK_OK(check_endpoints(container_id, endpoints));
  ContainerNet net;
  net.container_id_ = container_id;
  TRY(net.node_, Netlink::open());
  TRY(net.wire_, open_sending_socket());
  net.netns_ = std::move(netns);
  Status entered = in_netns(net.netns_.get(), [&]() -> Status {
    net.has_rto_max_ = read_sysctl("net/ipv4/tcp_rto_max_ms").has_value();
    TRY(net.inner_, Netlink::open());
    TRY(net.diag_, Netlink::open(NETLINK_SOCK_DIAG));
    TRY(net.arp_, open_sending_socket());
    TRY(const NetDevice loopback, net.inner_->link("lo"));
    net.loopback_index_ = loopback.index;
    return {};
  });
  if (!entered) {
    return tl::unexpected<Error>(entered.error().context("network of container " + container_id));
  }
  for (const Endpoint& endpoint : endpoints) {
    const std::string host_end = host_end_name(container_id, net.ports_.size());
    Status adopted = net.adopt_port({endpoint, host_end, 0, 0, 0});
    if (adopted) continue;
    net.release();
    return tl::unexpected<Error>(adopted.error().context(describe(container_id, endpoint)));
  }
  return net;
}

Status ContainerNet::adopt_port(Port port) {
  TRY(const NetDevice bridge, find_bridge(*node_, port.endpoint.bridge));
  TRY(const NetDevice host, node_->link(port.host_end));
  TRY(const NetDevice end, inner_->link(port.endpoint.fabric));
  TRY(const std::vector<std::string> addresses, inner_->addresses(end.index));
  if (end.peer != host.index || host.peer != end.index) {
    return fail(Errc::kConflict, "host end " + port.host_end + " belongs to another namespace");
  }
  if (host.master != bridge.index) {
    return fail(Errc::kConflict, "host end " + port.host_end + " is not a port of this bridge");
  }
  const std::string address = port.endpoint.address + "/" + std::to_string(port.endpoint.prefix);
  if (parse_mac(end.mac) != parse_mac(port.endpoint.mac) ||
      std::find(addresses.begin(), addresses.end(), address) == addresses.end()) {
    return fail(Errc::kConflict, "the container has another MAC or address than " +
                                     port.endpoint.mac + " and " + address);
  }
  port.host_index = host.index;
  port.inner_index = end.index;
  port.bridge_index = bridge.index;
  ports_.push_back(std::move(port));
  return {};
}

ContainerNet& ContainerNet::operator=(ContainerNet&& other) noexcept {
  if (this == &other) return *this;
  remove();
  container_id_ = std::move(other.container_id_);
  node_ = std::move(other.node_);
  inner_ = std::move(other.inner_);
  diag_ = std::move(other.diag_);
  netns_ = std::move(other.netns_);
  arp_ = std::move(other.arp_);
  wire_ = std::move(other.wire_);
  ports_ = std::exchange(other.ports_, {});
  loopback_index_ = other.loopback_index_;
  holds_ = std::exchange(other.holds_, {});
  has_rto_max_ = other.has_rto_max_;
  return *this;
}

ContainerNet::~ContainerNet() {
  remove();
}

// The host ends go before the namespace: the kernel empties a namespace later, on its own time,
// and until then their names would be taken.
void ContainerNet::remove() {
  for (const Port& port : ports_) (void)node_->remove_link(port.host_index);
  release();
}

void ContainerNet::release() {
  holds_.clear();
  ports_.clear();
  wire_.reset();
  arp_.reset();
  netns_.reset();
}

Status ContainerNet::settle_mtu() {
  for (const Port& port : ports_) CHECK_OK(inner_->set_mtu(port.inner_index, port.endpoint.mtu));
  return {};
}

Status ContainerNet::plug_once() {
  CHECK_OK(switch_loopback(true));
  for (const Port& port : ports_) CHECK_OK(set_plugged(*node_, port.host_index, true));
  return verify_plugged();
}

Status ContainerNet::plug() {
  // Often it is the only copy: a request that is lost is made again; a port that does not forward has had its time.
  Status plugged = plug_once();
  if (!plugged && plugged.error().code != Errc::kTimeout) plugged = plug_once();
  if (plugged) return {};
  (void)unplug();  // half plugged is the one state nobody wants
  return tl::unexpected<Error>(plugged.error().context("plug container " + container_id_ + " in"));
}

Status ContainerNet::switch_loopback(bool plugged) {
  Status switched = set_plugged(*inner_, loopback_index_, plugged);
  // A container that an older Lifeboat started has no hooks there.
  if (!switched && !plugged) switched = install_plug(*inner_, loopback_index_);
  if (switched) return {};
  return tl::unexpected<Error>(switched.error().context("loopback interface"));
}

Status ContainerNet::verify_plugged() {
  if (ports_.empty()) return fail(Errc::kInvalid, "this network was released");
  for (const Port& port : ports_) {
    CHECK_OK(await_forwarding(*node_, port.host_index, port.bridge_index));
    TRY(const PlugState plugged, plug_state(*node_, port.host_index));
    if (plugged != PlugState::kPlugged) {
      return fail(Errc::kSystem, port.host_end + " is still unplugged after plugging in");
    }
  }
  return {};
}

// Tries every fabric even when one fails: the less can pass the better.
Status ContainerNet::unplug() {
  Status unplugged = start_hold();
  if (Status closed = switch_loopback(false); !closed && unplugged) unplugged = std::move(closed);
  for (const Port& port : ports_) {
    Status closed = set_plugged(*node_, port.host_index, false);
    if (!closed && unplugged) unplugged = std::move(closed);
  }
  if (unplugged) {
    TRY(const PlugState now, state());
    if (now != PlugState::kUnplugged) {
      unplugged = fail(Errc::kSystem, "frames can still pass after unplugging");
    }
  }
  if (unplugged) return {};
  return tl::unexpected<Error>(unplugged.error().context("unplug container " + container_id_));
}

Result<PlugState> ContainerNet::state() {
  std::optional<PlugState> all;
  for (const Port& port : ports_) {
    TRY(const PlugState one, plug_state(*node_, port.host_index));
    all = !all || *all == one ? one : PlugState::kHalf;
  }
  if (!all) return fail(Errc::kInvalid, "this network was released");
  return *all;
}

Status ContainerNet::announce() {
  for (const Port& port : ports_) {
    sockaddr_ll everybody{};
    everybody.sll_family = AF_PACKET;
    everybody.sll_ifindex = port.inner_index;
    everybody.sll_halen = ETH_ALEN;
    std::fill_n(std::begin(everybody.sll_addr), ETH_ALEN, std::uint8_t{0xff});
    for (const ArpForm form : {ArpForm::kRequest, ArpForm::kReply}) {
      const auto frame = gratuitous_arp(port.endpoint, form);
      const ssize_t sent =
          ::sendto(arp_.get(), frame.data(), frame.size(), 0,
                   reinterpret_cast<const sockaddr*>(&everybody), sizeof(everybody));
      if (sent < 0) return fail_errno(describe(container_id_, port.endpoint) + ": announce");
    }
  }
  return {};
}

std::vector<std::string> ContainerNet::host_ends() const {
  std::vector<std::string> names;
  for (const Port& port : ports_) names.push_back(port.host_end);
  return names;
}

Result<std::vector<std::string>> host_ends_present() {
  TRY(Netlink node, Netlink::open());
  TRY(const std::vector<NetDevice> links, node.links());
  std::vector<std::string> names;
  for (const NetDevice& link : links) {
    if (link.kind == "veth" && is_host_end_name(link.name)) names.push_back(link.name);
  }
  return names;
}

Status remove_host_end(const std::string& name) {
  if (!is_host_end_name(name)) return fail(Errc::kInvalid, name + " is not a host end's name");
  TRY(Netlink node, Netlink::open());
  Result<NetDevice> link = node.link(name);
  if (!link && link.error().code == Errc::kNotFound) return {};  // gone already
  if (!link) return tl::unexpected<Error>(std::move(link).error());
  return node.remove_link(link->index);
}

}  // namespace lifeboat
