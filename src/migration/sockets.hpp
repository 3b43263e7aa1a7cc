// sockets.hpp - the TCP connections of a container, as its kernel lists them: looked at before a
// migration (will a connection die of the freeze?) and after it (did one?).
//
// The source is the kernel's socket diagnosis over netlink (as `ss`): it lists one namespace's sockets
// in 0.5 ms, where reading /proc/PID/net/tcp and tcp6 takes 9 (measured; both go through the hash
// table of the whole machine, /proc twice for each file).
// Its limit: the kernel shows one timer per socket, and a retransmission hides an armed keepalive.
// So keepalive_risks() can miss a busy connection; look when the container is idle or twice.
//
// Errors: kProtocol what no kernel that we know writes, kSystem the rest.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/netlink.hpp"
#include "base/result.hpp"

namespace lifeboat {

// The kernel's numbers (include/net/tcp_states.h).
enum class TcpState : std::uint8_t {
  kEstablished = 1,
  kSynSent,
  kSynReceived,
  kFinWait1,
  kFinWait2,
  kTimeWait,
  kClose,
  kCloseWait,
  kLastAck,
  kListen,
  kClosing,
  kNewSynReceived,
};

enum class TcpTimer : std::uint8_t {
  kNone = 0,
  kRetransmit = 1,
  kKeepalive = 2,  // in a state before or after the connection: its own time limit
  kTimeWait = 3,
  kZeroWindowProbe = 4,
};

struct TcpEnd {
  std::string address;  // "10.2.1.5", "fe80::1"
  std::uint16_t port = 0;

  bool operator==(const TcpEnd&) const = default;
  auto operator<=>(const TcpEnd&) const = default;
};

struct TcpSocket {
  TcpEnd local, remote;
  TcpState state = TcpState::kClose;
  TcpTimer timer = TcpTimer::kNone;
  std::chrono::milliseconds expires{0};  // of the timer, from now
  std::uint64_t inode = 0;               // 0: no process has it open
  std::uint32_t tx_queue = 0;            // bytes not yet acknowledged by the peer
  std::uint32_t rx_queue = 0;            // bytes not yet read; of a listener: not yet accepted

  bool operator==(const TcpSocket&) const = default;
};

// "10.2.1.5:40000 -> 10.2.1.6:5000"
[[nodiscard]] std::string to_string(const TcpSocket& socket);

// All of the namespace that `diag` was opened in, with NETLINK_SOCK_DIAG, but those that are bound only; IPv4 first.
[[nodiscard]] Result<std::vector<TcpSocket>> tcp_sockets(Netlink& diag);

// One of the kernel's messages (struct inet_diag_msg); nothing if it is none.
[[nodiscard]] std::optional<TcpSocket> parse_tcp_socket(std::span<const unsigned char> message);

// Connections with an armed keepalive timer: a freeze of this end is harmless to them here, but
// whoever set keepalive on one side usually set it on the other, whose kernel resets the
// connection after a few unanswered probes. One sentence each.
[[nodiscard]] std::vector<std::string> keepalive_risks(const std::vector<TcpSocket>& sockets);

// The ESTABLISHED ones, each as to_string() writes it, sorted: what two nodes compare.
[[nodiscard]] std::vector<std::string> established_pairs(const std::vector<TcpSocket>& sockets);

// A connection that CRIU cannot dump: being made, or made and waiting in a listener's queue.
[[nodiscard]] bool is_in_flight(const TcpSocket& socket);

}  // namespace lifeboat
