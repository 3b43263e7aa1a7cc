// Encrypted page connections: what goes in comes out, both ways at once; and who has not the key gets nothing.
#include "migration/page_socket.hpp"

#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <random>
#include <thread>

#include "tests/tcp_pair.hpp"

namespace lifeboat {
namespace {

constexpr std::uint64_t kNever = ~std::uint64_t{0};

PageKey key_of(unsigned char byte) {
  PageKey key{};
  key.fill(byte);
  return key;
}

PageSocket encrypted(Fd fd, PageSocket::End end, const PageKey& key, std::uint64_t rekey_bytes = kNever) {
  auto socket = PageSocket::encrypted(std::move(fd), end, key, rekey_bytes);
  if (!socket) throw std::runtime_error(socket.error().message);
  return std::move(*socket);
}

Status send_bytes(PageSocket& socket, std::vector<unsigned char> bytes, int timeout_s = 5) {
  std::vector<iovec> parts;
  // Pieces of many sizes, as headers and runs of pages are.
  std::size_t at = 0;
  for (std::size_t size = 40; at < bytes.size(); size = size * 5 % 70'001 + 1) {
    const std::size_t take = std::min(size, bytes.size() - at);
    parts.push_back({bytes.data() + at, take});
    at += take;
  }
  double waiting_s = 0;
  return socket.send(parts, timeout_s, waiting_s);
}

std::vector<unsigned char> random_bytes(std::size_t size) {
  std::vector<unsigned char> bytes(size);
  std::mt19937 random(7);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  return bytes;
}

struct Pair {
  explicit Pair(std::uint64_t rekey_bytes = kNever, unsigned char source_key = 1, unsigned char target_key = 1) {
    auto [ours, theirs] = tcp_pair();
    source = encrypted(std::move(ours), PageSocket::End::kSource, key_of(source_key), rekey_bytes);
    target = encrypted(std::move(theirs), PageSocket::End::kTarget, key_of(target_key), rekey_bytes);
    source.set_receive_timeout(5);
    target.set_receive_timeout(5);
  }
  PageSocket source;
  PageSocket target;
};

TEST(PageKey, GoesThroughHex) {
  PageKey key{};
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<unsigned char>(i * 37);
  const auto back = page_key_from(to_hex(key));
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, key);
  EXPECT_FALSE(page_key_from(""));
  EXPECT_FALSE(page_key_from(to_hex(key) + "00"));
  EXPECT_FALSE(page_key_from(std::string(64, 'g')));
  EXPECT_FALSE(page_key_from(std::string(64, 'A')));  // two texts of one key
}

TEST(PageSocket, BothWaysAtOnce) {
  Pair pair;
  const auto bytes = random_bytes(20 << 20);
  std::vector<unsigned char> got[2] = {std::vector<unsigned char>(bytes.size()),
                                       std::vector<unsigned char>(bytes.size())};
  Status results[4];
  {
    std::jthread threads[] = {
        std::jthread([&] { results[0] = send_bytes(pair.source, bytes); }),
        std::jthread([&] { results[1] = send_bytes(pair.target, bytes); }),
        std::jthread([&] { results[2] = pair.source.receive_all(got[0], "receive from"); }),
        std::jthread([&] { results[3] = pair.target.receive_all(got[1], "receive from"); })};
  }
  for (const Status& result : results) EXPECT_TRUE(result) << result.error().message;
  EXPECT_EQ(got[0], bytes);
  EXPECT_EQ(got[1], bytes);
}

TEST(PageSocket, TheKeyIsChanged) {
  Pair pair(100'000);
  const auto bytes = random_bytes(5 << 20);
  std::vector<unsigned char> got(bytes.size());
  Status sent;
  std::jthread sending([&] { sent = send_bytes(pair.source, bytes); });
  const Status received = pair.target.receive_all(got, "receive from");
  sending.join();
  EXPECT_TRUE(sent) << sent.error().message;
  EXPECT_TRUE(received) << received.error().message;
  EXPECT_EQ(got, bytes);
}

TEST(PageSocket, NothingReadableIsOnTheWire) {
  auto [ours, middle_ours] = tcp_pair();
  auto [middle_theirs, theirs] = tcp_pair();
  std::string seen;
  const auto pass_on = [&seen](int from, int to) {
    char bytes[4096];
    for (ssize_t n = 0; (n = ::recv(from, bytes, sizeof bytes, 0)) > 0;) {
      seen.append(bytes, static_cast<std::size_t>(n));
      (void)!::send(to, bytes, static_cast<std::size_t>(n), MSG_NOSIGNAL);
    }
    ::shutdown(to, SHUT_WR);
  };
  std::jthread one([&, from = middle_ours.get(), to = middle_theirs.get()] { pass_on(from, to); });
  std::jthread other([from = middle_theirs.get(), to = middle_ours.get()] {
    char bytes[4096];
    for (ssize_t n = 0; (n = ::recv(from, bytes, sizeof bytes, 0)) > 0;) {
      (void)!::send(to, bytes, static_cast<std::size_t>(n), MSG_NOSIGNAL);
    }
  });
  const std::string secret = "the pages of a container, which are nobody's business";
  std::string got(secret.size(), '\0');
  {
    PageSocket source = encrypted(std::move(ours), PageSocket::End::kSource, key_of(1));
    PageSocket target = encrypted(std::move(theirs), PageSocket::End::kTarget, key_of(1));
    Status received;
    std::jthread receiving([&] {
      received = target.receive_all({reinterpret_cast<unsigned char*>(got.data()), got.size()}, "receive from");
    });
    EXPECT_TRUE(send_bytes(source, {secret.begin(), secret.end()}));
    receiving.join();
    EXPECT_TRUE(received);
  }
  one.join();
  other.join();
  EXPECT_EQ(got, secret);
  EXPECT_GT(seen.size(), secret.size());
  EXPECT_EQ(seen.find("container"), std::string::npos);
}

TEST(PageSocket, AnotherKeyGetsNothing) {
  Pair pair(kNever, 1, 2);
  Status received;
  std::vector<unsigned char> got(10);
  std::jthread receiving([&] {
    received = pair.target.receive_all(got, "receive from");
    pair.target = PageSocket();
  });
  const Status sent = send_bytes(pair.source, random_bytes(100));
  receiving.join();
  EXPECT_FALSE(sent);
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error().code, Errc::kProtocol);
}

TEST(PageSocket, BytesThatAreNotEncryptedAreRefused) {
  auto [ours, theirs] = tcp_pair();
  PageSocket target = encrypted(std::move(theirs), PageSocket::End::kTarget, key_of(1));
  target.set_receive_timeout(5);
  const char text[] = "LBP2 and then whatever pages somebody would like to have in a container";
  ASSERT_EQ(::send(ours.get(), text, sizeof text, 0), static_cast<ssize_t>(sizeof text));
  std::vector<unsigned char> got(10);
  const Status received = target.receive_all(got, "receive from");
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error().code, Errc::kProtocol);
}

// Somebody in the middle who has a certificate, but not the key.
TEST(PageSocket, ACertificateIsNoKey) {
  auto [ours, theirs] = tcp_pair();
  PageSocket source = encrypted(std::move(ours), PageSocket::End::kSource, key_of(1));
  std::jthread middle([fd = theirs.get()] {
    SSL_CTX* const context = SSL_CTX_new(TLS_server_method());
    EVP_PKEY* const key = EVP_EC_gen("P-256");
    X509* const certificate = X509_new();
    X509_set_pubkey(certificate, key);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_sign(certificate, key, EVP_sha256());
    SSL_CTX_use_certificate(context, certificate);
    SSL_CTX_use_PrivateKey(context, key);
    SSL* const ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    EXPECT_NE(SSL_accept(ssl), 1);
    SSL_free(ssl);
    X509_free(certificate);
    EVP_PKEY_free(key);
    SSL_CTX_free(context);
    ::shutdown(fd, SHUT_RDWR);
  });
  EXPECT_FALSE(send_bytes(source, random_bytes(100)));
  source = PageSocket();
}

TEST(PageSocket, SilenceHasALimit) {
  Pair pair;
  pair.source.set_receive_timeout(1);
  std::vector<unsigned char> got(1);
  const Status received = pair.source.receive_all(got, "receive from");
  ASSERT_FALSE(received);
  EXPECT_EQ(received.error().code, Errc::kTimeout);
}

TEST(PageSocket, TheEndOfOneSideIsTheEnd) {
  Pair pair;
  std::vector<unsigned char> got(5);
  std::jthread sending([&] {
    EXPECT_TRUE(send_bytes(pair.source, {1, 2, 3, 4, 5}));
    pair.source = PageSocket();
  });
  EXPECT_TRUE(pair.target.receive_all(got, "receive from"));
  const auto more = pair.target.receive(got, {}, "receive from");
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_EQ(*more, 0u);
}

}  // namespace
}  // namespace lifeboat
