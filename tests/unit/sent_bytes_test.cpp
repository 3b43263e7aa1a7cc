// What is counted as sent is what the other end has, not what lies in a socket's buffer.
#include "migration/sent_bytes.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "tests/tcp_pair.hpp"

namespace lifeboat {
namespace {

// All that the socket takes.
std::uint64_t fill(int socket) {
  const std::vector<unsigned char> bytes(64U << 10);
  std::uint64_t taken = 0;
  ssize_t n = 0;
  while ((n = ::send(socket, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) {
    taken += static_cast<std::uint64_t>(n);
  }
  return taken;
}

void drain(int socket, std::uint64_t bytes) {
  std::vector<unsigned char> some(64U << 10);
  while (bytes > 0) {
    const ssize_t n = ::recv(socket, some.data(), some.size(), 0);
    ASSERT_GT(n, 0);
    bytes -= static_cast<std::uint64_t>(n);
  }
}

// An acknowledgement may come a moment after what it is for.
std::uint64_t total_at_least(const SentBytes& sent, std::uint64_t bytes) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (sent.total() < bytes && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return sent.total();
}

TEST(SentBytes, OnlyWhatTheOtherEndHas) {
  const auto sent = std::make_shared<SentBytes>();
  auto [ours, theirs] = tcp_pair();
  ASSERT_EQ(::send(ours.get(), "before", 6, 0), 6);
  drain(theirs.get(), 6);
  std::optional<SentBytes::Connection> counted;
  counted.emplace(sent, ours.get());
  const std::uint64_t taken = fill(ours.get());
  EXPECT_LT(sent->total(), taken);  // their buffer is full, and ours
  drain(theirs.get(), taken);
  // "before" may not have been acknowledged when the count began.
  const std::uint64_t total = total_at_least(*sent, taken);
  EXPECT_GE(total, taken);
  EXPECT_LE(total, taken + 6);
  counted.reset();
  ours.reset();
  EXPECT_EQ(sent->total(), total);
}

TEST(SentBytes, OfAllConnectionsAndWhatIsAdded) {
  const auto sent = std::make_shared<SentBytes>();
  auto [one, one_end] = tcp_pair();
  auto [two, two_end] = tcp_pair();
  const SentBytes::Connection first(sent, one.get());
  const SentBytes::Connection second(sent, two.get());
  ASSERT_EQ(::send(one.get(), "abc", 3, 0), 3);
  ASSERT_EQ(::send(two.get(), "abcde", 5, 0), 5);
  sent->add(100);
  EXPECT_EQ(total_at_least(*sent, 108), 108U);
}

TEST(SentBytes, ASocketThatIsNoneOfTcpCountsNothing) {
  const auto sent = std::make_shared<SentBytes>();
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const Fd ours(pair[0]);
  const Fd theirs(pair[1]);
  const SentBytes::Connection counted(sent, ours.get());
  ASSERT_EQ(::send(ours.get(), "abc", 3, 0), 3);
  EXPECT_EQ(sent->total(), 0U);
}

}  // namespace
}  // namespace lifeboat
