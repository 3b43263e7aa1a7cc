// wire.hpp - raw frames and sockets in any namespace, for lab tests of the network.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "base/netlink.hpp"
#include "base/netns.hpp"

namespace lifeboat::lab {

using Frame = std::vector<std::uint8_t>;

// A test cannot go on without what it asked for.
template <class T>
T need(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

// A socket made inside a namespace; it works from outside.
inline Fd socket_in(int netns, int family, int type, int protocol = 0) {
  Fd fd;
  need(in_netns(netns, [&]() -> Status {
    fd.reset(::socket(family, type | SOCK_CLOEXEC, protocol));
    if (!fd) return fail_errno("socket");
    return {};
  }));
  return fd;
}

inline sockaddr_in ipv4(const std::string& address, int port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET, address.c_str(), &name.sin_addr);
  return name;
}

inline const sockaddr* generic(const sockaddr_in& name) {
  return reinterpret_cast<const sockaddr*>(&name);
}

inline void set_timeout(const Fd& socket, std::chrono::milliseconds limit) {
  timeval time{limit.count() / 1000, (limit.count() % 1000) * 1000};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
}

// Everything that arrives at an interface (not what it sends), and a way to send anything.
class Tap {
 public:
  Tap(int netns, const std::string& interface) {
    need(in_netns(netns, [&]() -> Status {
      socket_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)));
      name_.sll_family = AF_PACKET;
      name_.sll_protocol = htons(ETH_P_ALL);
      name_.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
      const auto* name = reinterpret_cast<const sockaddr*>(&name_);
      packet_mreq all{};
      all.mr_ifindex = name_.sll_ifindex;
      all.mr_type = PACKET_MR_PROMISC;
      if (::bind(socket_.get(), name, sizeof(name_)) != 0 ||
          ::setsockopt(socket_.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)) != 0) {
        return fail_errno("tap " + interface);
      }
      return {};
    }));
    (void)arrived();
  }

  // What arrived since the last call.
  std::vector<Frame> arrived() {
    std::vector<Frame> frames;
    while (true) {
      Frame frame(2048);
      sockaddr_ll from{};
      socklen_t size = sizeof(from);
      const ssize_t got = ::recvfrom(socket_.get(), frame.data(), frame.size(), 0,
                                     reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 0 && errno == ENETDOWN) continue;  // said once after the interface was down
      if (got < 0) return frames;
      if (from.sll_pkttype == PACKET_OUTGOING) continue;
      frame.resize(static_cast<std::size_t>(got));
      frames.push_back(std::move(frame));
    }
  }

  // The same, of one sender.
  std::vector<Frame> arrived_from(const std::string& mac) {
    std::vector<Frame> frames = arrived();
    const auto sender = *parse_mac(mac);
    std::erase_if(frames, [&](const Frame& frame) {
      return frame.size() < 12 || !std::equal(sender.begin(), sender.end(), frame.begin() + 6);
    });
    return frames;
  }

  bool send(const Frame& frame) {
    return ::sendto(socket_.get(), frame.data(), frame.size(), 0,
                    reinterpret_cast<const sockaddr*>(&name_),
                    sizeof(name_)) == static_cast<ssize_t>(frame.size());
  }

 private:
  Fd socket_;
  sockaddr_ll name_{};
};

inline Frame frame(const std::string& to, const std::string& from, std::uint16_t type) {
  Frame bytes(64, 0xa5);
  const auto target = *parse_mac(to), source = *parse_mac(from);
  std::copy(target.begin(), target.end(), bytes.begin());
  std::copy(source.begin(), source.end(), bytes.begin() + 6);
  bytes[12] = static_cast<std::uint8_t>(type >> 8);
  bytes[13] = static_cast<std::uint8_t>(type);
  return bytes;
}

// One of every kind a bridge treats differently: known and unknown unicast, broadcast, multicast,
// the bridge's own address, link-local groups (STP, LLDP), VLAN tags, IPv6.
inline std::vector<Frame> every_kind(const std::string& from, const std::string& peer,
                                     const std::string& bridge) {
  std::vector<Frame> frames;
  for (const std::string& to :
       {peer, bridge, std::string("02:99:99:99:99:99"), std::string("ff:ff:ff:ff:ff:ff"),
        std::string("01:00:5e:00:00:01"), std::string("33:33:00:00:00:01"),
        std::string("01:80:c2:00:00:00"), std::string("01:80:c2:00:00:0e")}) {
    for (const int type : {0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8, 0x88cc, 0x9999}) {
      frames.push_back(frame(to, from, static_cast<std::uint16_t>(type)));
    }
  }
  return frames;
}

// A bridge with a fixed MAC and an address, up, in the namespace of the calling thread.
inline void make_bridge(Netlink& node, const std::string& name, const std::string& mac,
                        const std::string& address) {
  NetlinkRequest make(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  const auto bytes = *parse_mac(mac);
  make.header(ifinfomsg{}).text(IFLA_IFNAME, name).bytes(IFLA_ADDRESS, bytes.data(), bytes.size());
  make.nest(IFLA_LINKINFO, [](NetlinkRequest& info) { info.text(IFLA_INFO_KIND, "bridge"); });
  need(node.request(make, "make bridge " + name));
  const int index = need(node.link(name)).index;
  need(node.add_address(index, address, 24));
  need(node.set_up(index));
}

inline void pause(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

// One datagram from one namespace to an address in another, and its answer.
inline bool echo(int from_ns, int to_ns, const std::string& to) {
  Fd server = socket_in(to_ns, AF_INET, SOCK_DGRAM);
  Fd client = socket_in(from_ns, AF_INET, SOCK_DGRAM);
  const sockaddr_in name = ipv4(to, 7007);
  set_timeout(server, std::chrono::milliseconds(300));
  set_timeout(client, std::chrono::milliseconds(300));
  if (::bind(server.get(), generic(name), sizeof(name)) != 0) return false;
  static int count = 0;  // address resolution may have kept datagrams of earlier calls
  const int mine = ++count;
  if (::sendto(client.get(), &mine, sizeof(mine), 0, generic(name), sizeof(name)) < 0) {
    return false;
  }
  int got = 0;
  sockaddr_in sender{};
  socklen_t size = sizeof(sender);
  while (got != mine) {
    if (::recvfrom(server.get(), &got, sizeof(got), 0, reinterpret_cast<sockaddr*>(&sender),
                   &size) != sizeof(got)) {
      return false;
    }
  }
  if (::sendto(server.get(), &mine, sizeof(mine), 0, generic(sender), size) < 0) return false;
  return ::recv(client.get(), &got, sizeof(got), 0) == sizeof(got) && got == mine;
}

// A listener in `to_ns` and a connection to it from `from_ns`.
struct Connection {
  Fd listener, client, server;
};
inline Fd listen_in(int netns, const std::string& address) {
  Fd listener = socket_in(netns, AF_INET, SOCK_STREAM);
  const sockaddr_in name = ipv4(address, 5005);
  EXPECT_EQ(::bind(listener.get(), generic(name), sizeof(name)), 0);
  EXPECT_EQ(::listen(listener.get(), 4), 0);
  set_timeout(listener, std::chrono::seconds(20));
  return listener;
}
inline Connection connect_to(int from_ns, int to_ns, const std::string& address) {
  Connection c;
  c.listener = listen_in(to_ns, address);
  c.client = socket_in(from_ns, AF_INET, SOCK_STREAM);
  set_timeout(c.client, std::chrono::seconds(20));
  const sockaddr_in name = ipv4(address, 5005);
  EXPECT_EQ(::connect(c.client.get(), generic(name), sizeof(name)), 0);
  c.server = Fd(::accept4(c.listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  set_timeout(c.server, std::chrono::seconds(20));
  return c;
}

}  // namespace lifeboat::lab
