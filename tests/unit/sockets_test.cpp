#include "migration/sockets.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/inet_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>

#include "base/fd.hpp"

namespace lifeboat {
namespace {

TcpSocket connection(std::uint16_t port, TcpState state = TcpState::kEstablished) {
  TcpSocket socket;
  socket.local = {"10.2.0.5", port};
  socket.remote = {"10.2.0.6", 5000};
  socket.state = state;
  return socket;
}

// A listener, and connections: with keepalive, with data in flight, closing, with a closed window.
std::vector<TcpSocket> some_sockets() {
  TcpSocket listener;
  listener.local = {"10.2.0.5", 8080};
  listener.remote = {"0.0.0.0", 0};
  listener.state = TcpState::kListen;
  std::vector<TcpSocket> sockets{listener, connection(40000), connection(40001),
                                 connection(40002, TcpState::kTimeWait), connection(40003)};
  sockets[1].timer = TcpTimer::kKeepalive;
  sockets[1].expires = std::chrono::seconds(10);
  sockets[2].timer = TcpTimer::kRetransmit;
  sockets[4].timer = TcpTimer::kZeroWindowProbe;
  return sockets;
}

std::vector<unsigned char> bytes_of(const inet_diag_msg& message) {
  std::vector<unsigned char> bytes(sizeof message);
  std::memcpy(bytes.data(), &message, sizeof message);
  return bytes;
}

inet_diag_msg message_of_a_connection() {
  inet_diag_msg message{};
  message.idiag_family = AF_INET;
  message.idiag_state = 1;
  message.idiag_timer = 2;
  message.idiag_expires = 7250;
  message.id.idiag_sport = htons(40000);
  message.id.idiag_dport = htons(5000);
  ::inet_pton(AF_INET, "10.2.0.5", message.id.idiag_src);
  ::inet_pton(AF_INET, "10.2.0.6", message.id.idiag_dst);
  message.idiag_wqueue = 3;
  message.idiag_rqueue = 4;
  message.idiag_inode = 21302;
  return message;
}

TEST(ParseTcpSocket, ReadsAConnection) {
  const auto socket = parse_tcp_socket(bytes_of(message_of_a_connection()));
  ASSERT_TRUE(socket.has_value());
  EXPECT_EQ(to_string(*socket), "10.2.0.5:40000 -> 10.2.0.6:5000");
  EXPECT_EQ(socket->state, TcpState::kEstablished);
  EXPECT_EQ(socket->timer, TcpTimer::kKeepalive);
  EXPECT_EQ(socket->expires, std::chrono::milliseconds(7250));
  EXPECT_EQ(socket->tx_queue, 3u);
  EXPECT_EQ(socket->rx_queue, 4u);
  EXPECT_EQ(socket->inode, 21302u);
}

TEST(ParseTcpSocket, ReadsIpv6) {
  inet_diag_msg message = message_of_a_connection();
  message.idiag_family = AF_INET6;
  ::inet_pton(AF_INET6, "::ffff:10.2.0.5", message.id.idiag_src);
  ::inet_pton(AF_INET6, "fe80::1", message.id.idiag_dst);
  const auto socket = parse_tcp_socket(bytes_of(message));
  ASSERT_TRUE(socket.has_value());
  EXPECT_EQ(to_string(*socket), "[::ffff:10.2.0.5]:40000 -> [fe80::1]:5000");
}

TEST(ParseTcpSocket, RefusesWhatIsNone) {
  const auto refused = [](auto change) {
    inet_diag_msg message = message_of_a_connection();
    change(message);
    return !parse_tcp_socket(bytes_of(message)).has_value();
  };
  EXPECT_TRUE(refused([](inet_diag_msg& m) { m.idiag_family = AF_UNIX; }));
  EXPECT_TRUE(refused([](inet_diag_msg& m) { m.idiag_state = 0; }));
  EXPECT_TRUE(refused([](inet_diag_msg& m) { m.idiag_state = 13; }));
  EXPECT_TRUE(refused([](inet_diag_msg& m) { m.idiag_timer = 5; }));
  auto bytes = bytes_of(message_of_a_connection());
  bytes.pop_back();
  EXPECT_FALSE(parse_tcp_socket(bytes).has_value());
  EXPECT_FALSE(parse_tcp_socket({}).has_value());
}

TEST(KeepaliveRisks, NamesOnlyOpenConnectionsWithTheTimer) {
  auto sockets = some_sockets();
  TcpSocket closing = sockets[1];
  closing.state = TcpState::kFinWait2;  // its time limit runs on the same timer
  sockets.push_back(closing);
  EXPECT_EQ(keepalive_risks(sockets),
            std::vector<std::string>{
                "10.2.0.5:40000 -> 10.2.0.6:5000 uses TCP keepalive, next probe in 10000 ms: a "
                "freeze longer than its probes last ends it"});
  EXPECT_TRUE(keepalive_risks({}).empty());
}

TEST(IsInFlight, IsWhatCriuCannotDump) {
  EXPECT_TRUE(is_in_flight(connection(1, TcpState::kSynSent)));
  EXPECT_TRUE(is_in_flight(connection(1, TcpState::kSynReceived)));
  EXPECT_FALSE(is_in_flight(connection(1)));
  TcpSocket listener = some_sockets()[0];
  EXPECT_FALSE(is_in_flight(listener));
  listener.rx_queue = 1;
  EXPECT_TRUE(is_in_flight(listener));
}

TEST(TcpSockets, SeesThisProcess) {
  Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(listener.get(), generic, size), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), generic, &size), 0);
  Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1, idle = 33;
  ::setsockopt(client.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  ::setsockopt(client.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
  ASSERT_EQ(::connect(client.get(), generic, size), 0);

  auto diag = Netlink::open(NETLINK_SOCK_DIAG);
  ASSERT_TRUE(diag.has_value()) << diag.error().message;
  const auto sockets = tcp_sockets(*diag);
  ASSERT_TRUE(sockets.has_value()) << sockets.error().message;
  const std::uint16_t port = ntohs(address.sin_port);
  bool listening = false, waiting = false, kept_alive = false;
  for (const TcpSocket& socket : *sockets) {
    listening |= socket.state == TcpState::kListen && socket.local == TcpEnd{"127.0.0.1", port};
    // Nobody has accepted the connection.
    waiting |= socket.state == TcpState::kListen && socket.local.port == port && is_in_flight(socket);
    const bool ours = socket.state == TcpState::kEstablished && socket.remote.port == port;
    kept_alive |= ours && socket.timer == TcpTimer::kKeepalive &&
                  socket.expires > std::chrono::seconds(30) &&
                  socket.expires <= std::chrono::seconds(33);
  }
  EXPECT_TRUE(listening);
  EXPECT_TRUE(waiting);
  EXPECT_TRUE(kept_alive);
}

}  // namespace
}  // namespace lifeboat
