#include "migration/sockets.hpp"

#include <arpa/inet.h>
#include <fcntl.h>

#include <array>
#include <charconv>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "base/fd.hpp"

namespace lifeboat {
namespace {

// The kernel needs 150 bytes per socket: room for 400 000 of them.
constexpr std::size_t kTextMax = std::size_t{64} << 20;
constexpr std::uint64_t kMillisecondsPerTick = 10;  // USER_HZ is 100 on every Linux we run on

// The whole of `text` as a number, or nothing.
template <class Number>
std::optional<Number> number(std::string_view text, int base) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value, base);
  if (error != std::errc{} || stop != end || text.empty()) return std::nullopt;
  return value;
}

// "A:B" -> {"A", "B"}
std::optional<std::pair<std::string_view, std::string_view>> halves(std::string_view text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  return std::pair(text.substr(0, colon), text.substr(colon + 1));
}

// "0100007F:1F90": the address in words of four bytes as this machine holds them, the port plain.
std::optional<TcpEnd> parse_end(std::string_view text) {
  const auto parts = halves(text);
  if (!parts || (parts->first.size() != 8 && parts->first.size() != 32)) return std::nullopt;
  const auto port = number<std::uint16_t>(parts->second, 16);
  std::array<std::uint32_t, 4> words{};
  const std::size_t count = parts->first.size() / 8;
  for (std::size_t i = 0; i < count; ++i) {
    const auto word = number<std::uint32_t>(parts->first.substr(8 * i, 8), 16);
    if (!word) return std::nullopt;
    words[i] = *word;
  }
  std::array<char, INET6_ADDRSTRLEN> name{};
  const int family = count == 1 ? AF_INET : AF_INET6;
  if (!port || ::inet_ntop(family, words.data(), name.data(), name.size()) == nullptr) {
    return std::nullopt;
  }
  return TcpEnd{name.data(), *port};
}

// The first ten columns; what follows depends on the kernel and on the state.
constexpr std::size_t kColumns = 10;
std::optional<std::array<std::string_view, kColumns>> columns(std::string_view line) {
  std::array<std::string_view, kColumns> found;
  std::size_t at = 0;
  for (std::string_view& column : found) {
    at = line.find_first_not_of(' ', at);
    if (at == std::string_view::npos) return std::nullopt;
    const std::size_t end = std::min(line.find(' ', at), line.size());
    column = line.substr(at, end - at);
    at = end;
  }
  return found;
}

//   sl: local remote st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
std::optional<TcpSocket> parse_line(std::string_view line) {
  const auto column = columns(line);
  if (!column || (*column)[0].back() != ':') return std::nullopt;
  const auto local = parse_end((*column)[1]);
  const auto remote = parse_end((*column)[2]);
  const auto state = number<std::uint8_t>((*column)[3], 16);
  const auto queues = halves((*column)[4]);
  const auto timer = halves((*column)[5]);
  const auto inode = number<std::uint64_t>((*column)[9], 10);
  if (!local || !remote || !state || !queues || !timer || !inode) return std::nullopt;
  const auto tx_queue = number<std::uint32_t>(queues->first, 16);
  const auto rx_queue = number<std::uint32_t>(queues->second, 16);
  const auto kind = number<std::uint8_t>(timer->first, 16);
  const auto ticks = number<std::uint32_t>(timer->second, 16);  // years fit
  if (!tx_queue || !rx_queue || !kind || !ticks) return std::nullopt;
  if (*state < 1 || *state > static_cast<std::uint8_t>(TcpState::kNewSynReceived) ||
      *kind > static_cast<std::uint8_t>(TcpTimer::kZeroWindowProbe)) {
    return std::nullopt;
  }
  TcpSocket socket;
  socket.local = *local;
  socket.remote = *remote;
  socket.state = static_cast<TcpState>(*state);
  socket.timer = static_cast<TcpTimer>(*kind);
  socket.expires = std::chrono::milliseconds(*ticks * kMillisecondsPerTick);
  socket.inode = *inode;
  socket.tx_queue = *tx_queue;
  socket.rx_queue = *rx_queue;
  return socket;
}

Result<std::string> read_proc(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT) return fail(Errc::kNotFound, "there is no " + path);
  if (!fd) return fail_errno("open " + path);
  std::string text;
  std::vector<char> block(std::size_t{64} << 10);
  while (text.size() <= kTextMax) {
    const ssize_t size = ::read(fd.get(), block.data(), block.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == ESRCH)
      return fail(Errc::kNotFound, "the process of " + path + " ended");
    if (size < 0) return fail_errno("read " + path);
    if (size == 0) return text;
    text.append(block.data(), static_cast<std::size_t>(size));
  }
  return fail(Errc::kSystem, path + " is larger than " + std::to_string(kTextMax) + " bytes");
}

}  // namespace

std::string to_string(const TcpSocket& socket) {
  const auto end = [](const TcpEnd& e) {
    const bool ipv6 = e.address.find(':') != std::string::npos;
    return (ipv6 ? "[" + e.address + "]" : e.address) + ":" + std::to_string(e.port);
  };
  return end(socket.local) + " -> " + end(socket.remote);
}

Result<std::vector<TcpSocket>> tcp_sockets(pid_t pid) {
  const std::string directory = "/proc/" + std::to_string(pid) + "/net/";
  std::vector<TcpSocket> sockets;
  for (const char* file : {"tcp", "tcp6"}) {
    Result<std::string> text = read_proc(directory + file);
    // A kernel without IPv6 has no tcp6; without tcp there is no such process.
    if (!text && text.error().code == Errc::kNotFound && std::strcmp(file, "tcp6") == 0) break;
    if (!text) return tl::unexpected<Error>(std::move(text).error());
    Result<std::vector<TcpSocket>> some = parse_proc_net_tcp(*text);
    if (!some) return tl::unexpected<Error>(some.error().context(directory + file));
    sockets.insert(sockets.end(), some->begin(), some->end());
  }
  return sockets;
}

Result<std::vector<TcpSocket>> parse_proc_net_tcp(std::string_view text) {
  std::vector<TcpSocket> sockets;
  for (std::size_t line_number = 1; !text.empty(); ++line_number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line_number == 1 && line.find("local_address") != std::string_view::npos) continue;
    auto socket = line_number == 1 ? std::nullopt : parse_line(line);
    if (!socket) {
      return fail(Errc::kProtocol, "line " + std::to_string(line_number) +
                                       ": not a line of the kernel's socket table: '" +
                                       std::string(line.substr(0, 80)) + "'");
    }
    sockets.push_back(*std::move(socket));
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

std::vector<TcpSocket> lost_connections(const std::vector<TcpSocket>& before,
                                        const std::vector<TcpSocket>& after) {
  std::set<std::pair<TcpEnd, TcpEnd>> present;
  for (const TcpSocket& socket : after) present.emplace(socket.local, socket.remote);
  std::vector<TcpSocket> lost;
  for (const TcpSocket& socket : before) {
    if (socket.state != TcpState::kEstablished) continue;
    if (!present.contains({socket.local, socket.remote})) lost.push_back(socket);
  }
  return lost;
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
