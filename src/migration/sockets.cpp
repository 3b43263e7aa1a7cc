#include "migration/sockets.hpp"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netlink/msg.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace lifeboat {
namespace {

std::string address_text(int family, const void* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  return ::inet_ntop(family, address, text.data(), text.size()) != nullptr ? text.data() : "";
}

}  // namespace

std::string to_string(const TcpSocket& socket) {
  const auto end = [](const TcpEnd& e) {
    const bool ipv6 = e.address.find(':') != std::string::npos;
    return (ipv6 ? "[" + e.address + "]" : e.address) + ":" + std::to_string(e.port);
  };
  return end(socket.local) + " -> " + end(socket.remote);
}

std::optional<TcpSocket> parse_tcp_socket(std::span<const unsigned char> message) {
  inet_diag_msg info{};
  if (message.size() < sizeof info) return std::nullopt;
  std::memcpy(&info, message.data(), sizeof info);
  const bool known = (info.idiag_family == AF_INET || info.idiag_family == AF_INET6) &&
                     info.idiag_state >= static_cast<std::uint8_t>(TcpState::kEstablished) &&
                     info.idiag_state <= static_cast<std::uint8_t>(TcpState::kNewSynReceived) &&
                     info.idiag_timer <= static_cast<std::uint8_t>(TcpTimer::kZeroWindowProbe);
  if (!known) return std::nullopt;
  TcpSocket socket;
  socket.local = {address_text(info.idiag_family, info.id.idiag_src), ntohs(info.id.idiag_sport)};
  socket.remote = {address_text(info.idiag_family, info.id.idiag_dst), ntohs(info.id.idiag_dport)};
  socket.state = static_cast<TcpState>(info.idiag_state);
  socket.timer = static_cast<TcpTimer>(info.idiag_timer);
  socket.expires = std::chrono::milliseconds(info.idiag_expires);
  socket.inode = info.idiag_inode;
  socket.tx_queue = info.idiag_wqueue;
  socket.rx_queue = info.idiag_rqueue;
  return socket;
}

// All that a connection or a listener can be in. With any other the kernel (6.8) looks for sockets that are
// bound only, in a table of 65,536 places.
constexpr std::uint32_t kStates = (2U << static_cast<unsigned>(TcpState::kNewSynReceived)) - 2;

Result<std::vector<TcpSocket>> tcp_sockets(Netlink& diag) {
  std::vector<TcpSocket> sockets;
  for (const int family : {AF_INET, AF_INET6}) {
    inet_diag_req_v2 wanted{};
    wanted.sdiag_family = static_cast<std::uint8_t>(family);
    wanted.sdiag_protocol = IPPROTO_TCP;
    wanted.idiag_states = kStates;
    NetlinkRequest list(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
    list.header(wanted);
    bool known = true;
    const Status listed = diag.request(list, "list TCP sockets", [&](nlmsghdr* message) {
      if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY) return;
      const auto* data = static_cast<const unsigned char*>(nlmsg_data(message));
      auto socket = parse_tcp_socket({data, static_cast<std::size_t>(nlmsg_datalen(message))});
      known = known && socket;
      if (socket) sockets.push_back(*std::move(socket));
    });
    // A kernel without IPv6 has no such sockets.
    if (!listed && family == AF_INET6 && listed.error().code == Errc::kNotFound) break;
    CHECK_OK(listed);
    if (!known) return fail(Errc::kProtocol, "list TCP sockets: one of a kind that Lifeboat does not know");
  }
  return sockets;
}

std::vector<std::string> keepalive_risks(const std::vector<TcpSocket>& sockets) {
  std::vector<std::string> risks;
  for (const TcpSocket& socket : sockets) {
    const bool open =
        socket.state == TcpState::kEstablished || socket.state == TcpState::kCloseWait;
    if (!open || socket.timer != TcpTimer::kKeepalive) continue;
    risks.push_back(to_string(socket) + " uses TCP keepalive, next probe in " +
                    std::to_string(socket.expires.count()) +
                    " ms: a freeze longer than its probes last ends it");
  }
  return risks;
}

std::vector<std::string> established_pairs(const std::vector<TcpSocket>& sockets) {
  std::vector<std::string> pairs;
  for (const TcpSocket& socket : sockets) {
    if (socket.state == TcpState::kEstablished) pairs.push_back(to_string(socket));
  }
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

bool is_in_flight(const TcpSocket& socket) {
  if (socket.state == TcpState::kListen) return socket.rx_queue > 0;
  return socket.state == TcpState::kSynSent || socket.state == TcpState::kSynReceived ||
         socket.state == TcpState::kNewSynReceived;
}

}  // namespace lifeboat
