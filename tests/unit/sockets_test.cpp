#include "migration/sockets.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/fd.hpp"

namespace lifeboat {
namespace {

// As Linux 6.18 prints them: a listener, both ends of a connection (one with keepalive, one with
// data in flight), a TIME_WAIT, a zero-window probe and a listener's half-open request.
constexpr const char* kTcp =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode                                                     \n"
    "   0: 0500020A:1F90 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 "
    "21301 1 ffff8881037e1a00 100 0 0 10 0                     \n"
    "   1: 0500020A:9C40 0600020A:1388 01 00000000:00000000 02:000003E8 00000000  1000        0 "
    "21302 2 ffff8881037e2340 20 4 30 10 -1                    \n"
    "   2: 0500020A:9C41 0600020A:1388 01 000005A8:00000010 01:00000015 00000003     0        0 "
    "21303 3 ffff8881037e2c80 21 4 30 10 -1                    \n"
    "   3: 0500020A:9C42 0600020A:1388 06 00000000:00000000 03:00001770 00000000     0        0 0 "
    "3 ffff8881037e3000                                      \n"
    "   4: 0500020A:9C43 0600020A:1388 01 00001000:00000000 04:00000190 00000000     0        5 "
    "21305 2 ffff8881037e35c0 20 0 0 10 7                      \n"
    "  15: 0500020A:1F90 0700020A:D431 03 00000000:00000000 01:00000064 00000001     0        0 0 "
    "1 ffff8881037e4000                                      \n";

constexpr const char* kTcp6 =
    "  sl  local_address                         remote_address                        st tx_queue "
    "rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    "   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A "
    "00000000:00000000 00:00000000 00000000     0        0 17290 1 ffff88810 100 0 0 10 0\n"
    "   1: 0000000000000000FFFF00000500020A:C350 0000000000000000FFFF00000600020A:1388 01 "
    "00000000:00000000 00:00000000 00000000     0        0 17291 1 ffff88811 20 4 1 10 -1\n";

std::vector<TcpSocket> parsed(std::string_view text) {
  auto sockets = parse_proc_net_tcp(text);
  EXPECT_TRUE(sockets.has_value()) << sockets.error().message;
  return sockets.value_or(std::vector<TcpSocket>{});
}

std::string refused(std::string_view text) {
  auto sockets = parse_proc_net_tcp(text);
  EXPECT_FALSE(sockets.has_value());
  if (sockets) return {};
  EXPECT_EQ(sockets.error().code, Errc::kProtocol);
  return sockets.error().message;
}

TEST(ParseProcNetTcp, ReadsEveryKindOfLine) {
  const auto sockets = parsed(kTcp);
  ASSERT_EQ(sockets.size(), 6u);
  EXPECT_EQ(sockets[0].state, TcpState::kListen);
  EXPECT_EQ(sockets[0].local, (TcpEnd{"10.2.0.5", 8080}));
  EXPECT_EQ(sockets[0].remote, (TcpEnd{"0.0.0.0", 0}));
  EXPECT_EQ(sockets[0].rx_queue, 2u);
  EXPECT_EQ(to_string(sockets[1]), "10.2.0.5:40000 -> 10.2.0.6:5000");
  EXPECT_EQ(sockets[1].timer, TcpTimer::kKeepalive);
  EXPECT_EQ(sockets[1].expires, std::chrono::seconds(10));
  EXPECT_EQ(sockets[1].inode, 21302u);
  EXPECT_EQ(sockets[2].timer, TcpTimer::kRetransmit);
  EXPECT_EQ(sockets[2].expires, std::chrono::milliseconds(210));
  EXPECT_EQ(sockets[2].tx_queue, 0x5a8u);
  EXPECT_EQ(sockets[2].rx_queue, 16u);
  EXPECT_EQ(sockets[3].state, TcpState::kTimeWait);
  EXPECT_EQ(sockets[3].timer, TcpTimer::kTimeWait);
  EXPECT_EQ(sockets[3].inode, 0u);
  EXPECT_EQ(sockets[4].timer, TcpTimer::kZeroWindowProbe);
  EXPECT_EQ(sockets[5].state, TcpState::kSynReceived);
}

TEST(ParseProcNetTcp, ReadsIpv6) {
  const auto sockets = parsed(kTcp6);
  ASSERT_EQ(sockets.size(), 2u);
  EXPECT_EQ(sockets[0].local, (TcpEnd{"::1", 22}));
  EXPECT_EQ(to_string(sockets[1]), "[::ffff:10.2.0.5]:50000 -> [::ffff:10.2.0.6]:5000");
}

TEST(ParseProcNetTcp, EmptyIsEmpty) {
  EXPECT_TRUE(parsed("").empty());
  const std::string text = kTcp;
  EXPECT_TRUE(parsed(text.substr(0, text.find('\n') + 1)).empty());
  EXPECT_TRUE(parsed(text.substr(0, text.find('\n'))).empty());
}

TEST(ParseProcNetTcp, RefusesGarbageAndSaysWhere) {
  const std::string header = "  sl  local_address rem_address st\n";
  EXPECT_EQ(refused("hello\n"), "line 1: not a line of the kernel's socket table: 'hello'");
  EXPECT_EQ(refused(header + "hello\n"),
            "line 2: not a line of the kernel's socket table: 'hello'");
  EXPECT_EQ(refused(header + "\n"), "line 2: not a line of the kernel's socket table: ''");
  refused(header + std::string(1000, ' ') + "\n");
  refused(header + std::string(100, '\0') + "\n");
}

// Every way to damage one field of a good line.
TEST(ParseProcNetTcp, RefusesDamagedFields) {
  const std::string header = "  sl  local_address rem_address st\n";
  const std::vector<std::string> good = {"1:",
                                         "0500020A:9C40",
                                         "0600020A:1388",
                                         "01",
                                         "00000000:00000000",
                                         "02:000003E8",
                                         "00000000",
                                         "0",
                                         "0",
                                         "21302"};
  const auto line = [&](std::size_t changed, const std::string& to) {
    std::string text = header;
    for (std::size_t i = 0; i < good.size(); ++i) text += " " + (i == changed ? to : good[i]);
    return text + "\n";
  };
  ASSERT_EQ(parsed(line(99, "")).size(), 1u);
  const std::vector<std::pair<std::size_t, std::string>> damage = {{0, "1"},
                                                                   {1, "0500020A"},
                                                                   {1, "0500020A:19C40"},
                                                                   {1, "0500020:9C40"},
                                                                   {1, "G500020A:1"},
                                                                   {1, ":"},
                                                                   {2, "0600020A:"},
                                                                   {2, "-600020A:1388"},
                                                                   {3, "00"},
                                                                   {3, "0D"},
                                                                   {3, "1FF"},
                                                                   {3, "x"},
                                                                   {4, "00000000"},
                                                                   {4, "100000000:0"},
                                                                   {4, "0:"},
                                                                   {5, "05:0"},
                                                                   {5, "02"},
                                                                   {5, "02:FFFFFFFFFF"},
                                                                   {9, "-1"},
                                                                   {9, "0x10"},
                                                                   {9, ""},
                                                                   {9, "99999999999999999999999"}};
  for (const auto& [field, value] : damage) refused(line(field, value));
}

// Whatever bytes come, the parser answers; nothing is read outside the text.
TEST(ParseProcNetTcp, SurvivesEveryTruncationAndFlippedByte) {
  const std::string text = kTcp;
  for (std::size_t size = 0; size < text.size(); ++size) {
    (void)parse_proc_net_tcp(std::string_view(text).substr(0, size));
    std::string flipped = text;
    flipped[size] = static_cast<char>(flipped[size] ^ 0x55);
    (void)parse_proc_net_tcp(flipped);
  }
}

TEST(KeepaliveRisks, NamesOnlyOpenConnectionsWithTheTimer) {
  auto sockets = parsed(kTcp);
  TcpSocket closing = sockets[1];
  closing.state = TcpState::kFinWait2;  // its time limit runs on the same timer
  sockets.push_back(closing);
  EXPECT_EQ(keepalive_risks(sockets),
            std::vector<std::string>{
                "10.2.0.5:40000 -> 10.2.0.6:5000 uses TCP keepalive, next probe in 10000 ms: a "
                "freeze longer than its probes last ends it"});
  EXPECT_TRUE(keepalive_risks({}).empty());
}

TEST(LostConnections, AreThoseThatVanished) {
  const auto before = parsed(kTcp);
  auto after = before;
  EXPECT_TRUE(lost_connections(before, after).empty());
  after[2].state = TcpState::kCloseWait;  // the peer closed: that is no loss
  after.erase(after.begin() + 1);         // this one is
  after.erase(after.begin());             // a listener is not a connection
  const auto lost = lost_connections(before, after);
  ASSERT_EQ(lost.size(), 1u);
  EXPECT_EQ(lost[0], before[1]);
  EXPECT_EQ(lost_connections(before, {}).size(), 3u);
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

  const auto sockets = tcp_sockets(::getpid());
  ASSERT_TRUE(sockets.has_value()) << sockets.error().message;
  const std::uint16_t port = ntohs(address.sin_port);
  bool listening = false, kept_alive = false;
  for (const TcpSocket& socket : *sockets) {
    listening |= socket.state == TcpState::kListen && socket.local == TcpEnd{"127.0.0.1", port};
    const bool ours = socket.state == TcpState::kEstablished && socket.remote.port == port;
    kept_alive |= ours && socket.timer == TcpTimer::kKeepalive &&
                  socket.expires > std::chrono::seconds(30) &&
                  socket.expires <= std::chrono::seconds(33);
  }
  EXPECT_TRUE(listening);
  EXPECT_TRUE(kept_alive);
}

TEST(TcpSockets, NoSuchProcess) {
  const auto sockets = tcp_sockets(0x7fffffff);
  ASSERT_FALSE(sockets.has_value());
  EXPECT_EQ(sockets.error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace lifeboat
