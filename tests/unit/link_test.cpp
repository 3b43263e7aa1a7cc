// One connection between daemons, over loopback, with peers that behave and peers that do not.
#include "migration/link.hpp"

#include <gtest/gtest.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace lifeboat {
namespace {

using asio::ip::tcp;
using protocol::Kind;

constexpr Milliseconds kLimit{3000};
constexpr Milliseconds kShort{300};
const LinkSelf kHere{"c", "here"};
const LinkSelf kThere{"c", "there"};

// A listener, and what runs against it until all of it has ended.
class LinkTest : public ::testing::Test {
 protected:
  asio::io_context context_{1};
  tcp::acceptor acceptor_{context_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)};

  [[nodiscard]] std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

  void run(std::vector<awaitable<void>> tasks) {
    std::size_t left = tasks.size();
    for (auto& task : tasks) {
      asio::co_spawn(context_, std::move(task), [&](std::exception_ptr error) {
        EXPECT_FALSE(error);
        --left;
      });
    }
    context_.run_for(std::chrono::seconds(10));
    EXPECT_EQ(left, 0u) << "hangs";
  }

  awaitable<tcp::socket> accepted() {
    auto [error, socket] = co_await acceptor_.async_accept(use_tuple);
    EXPECT_FALSE(error);
    co_return std::move(socket);
  }

  // A daemon: greets, then sends back one frame's text in a Response.
  awaitable<void> echo() {
    Link link(co_await accepted());
    auto peer = co_await link.accept_hello(kThere, limit_);
    if (!peer) {
      server_said_ = peer.error().message;
      co_return;
    }
    server_said_ = "peer " + peer->node;
    auto frame = co_await link.receive(limit_);
    if (!frame) {
      server_said_ = frame.error().message;
      co_return;
    }
    json::object body{{"bytes", frame->payload.size()}};
    (void)co_await link.send(Kind::kResponse, std::move(body), kLimit);
  }

  static awaitable<void> until_closed(tcp::socket& socket) {
    char byte;
    for (;;) {
      auto [error, n] = co_await socket.async_read_some(asio::buffer(&byte, 1), use_tuple);
      if (error) co_return;
    }
  }

  // Sends raw bytes as a client, then reads until the other side closes (or `hold` is over).
  awaitable<void> raw(std::string bytes, Milliseconds hold) {
    tcp::socket socket(context_);
    const tcp::endpoint endpoint(asio::ip::address_v4::loopback(), port());
    auto [failed] = co_await socket.async_connect(endpoint, use_tuple);
    EXPECT_FALSE(failed);
    co_await asio::async_write(socket, asio::buffer(bytes), use_tuple);
    Deadline deadline(context_.get_executor(), hold, [&] { socket.cancel(); });
    co_await until_closed(socket);
  }

  // A server that accepts and sends these bytes, whatever it hears.
  awaitable<void> answers(std::string bytes) {
    tcp::socket socket = co_await accepted();
    co_await asio::async_write(socket, asio::buffer(bytes), use_tuple);
    co_await until_closed(socket);
  }

  awaitable<void> client(LinkSelf self) {
    PeerAddress to{"there", "127.0.0.1", port()};
    auto link = co_await Link::connect(std::move(to), self, limit_);
    if (!link) {
      client_said_ = std::string(to_string(link.error().code)) + ": " + link.error().message;
      co_return;
    }
    json::object request{{"method", "x"}};
    (void)co_await link->send(Kind::kRequest, std::move(request), kLimit);
    auto answer = co_await link->expect(Kind::kResponse, kLimit);
    client_said_ = answer ? json::serialize(*answer)
                          : std::string(to_string(answer.error().code)) + ": " +
                                answer.error().message;
  }

  static std::string frame(Kind kind, const std::string& text, std::uint32_t length) {
    unsigned char header[protocol::kHeaderBytes];
    encode(protocol::Header{kind, length}, header);
    return std::string(std::begin(header), std::end(header)) + text;
  }
  static std::string frame(Kind kind, const std::string& text) {
    return frame(kind, text, static_cast<std::uint32_t>(text.size()));
  }

  void serve(const std::string& bytes, Milliseconds hold = Milliseconds(2000)) {
    std::vector<awaitable<void>> tasks;
    tasks.push_back(echo());
    tasks.push_back(raw(bytes, hold));
    run(std::move(tasks));
  }
  void call(const std::string& answer) {
    std::vector<awaitable<void>> tasks;
    tasks.push_back(answers(answer));
    tasks.push_back(client(kHere));
    run(std::move(tasks));
  }

  Milliseconds limit_ = kLimit;  // short where it is to run out
  std::string server_said_;
  std::string client_said_;
};

std::string hello_of(const std::string& cluster) {
  return R"({"cluster":")" + cluster + R"(","node":"there","version":)" + std::to_string(protocol::kVersion) + "}";
}
const std::string kHello = hello_of("c");

TEST_F(LinkTest, GreetsAndTalks) {
  std::vector<awaitable<void>> tasks;
  tasks.push_back(echo());
  tasks.push_back(client(kHere));
  run(std::move(tasks));
  EXPECT_EQ(server_said_, "peer here");
  EXPECT_EQ(client_said_, R"({"bytes":14})");
}

TEST_F(LinkTest, AnotherClusterIsRefusedAndTold) {
  std::vector<awaitable<void>> tasks;
  tasks.push_back(echo());
  LinkSelf other{"other", "here"};
  tasks.push_back(client(std::move(other)));
  run(std::move(tasks));
  EXPECT_EQ(server_said_, "node here belongs to cluster 'other', this one to 'c'");
  EXPECT_EQ(client_said_, "refused: hello: node here belongs to cluster 'other', this one to 'c'");
}

TEST_F(LinkTest, AnotherVersion) {
  const std::string own = std::to_string(protocol::kVersion), other = std::to_string(protocol::kVersion + 1);
  serve(frame(Kind::kHello, R"({"cluster":"c","node":"n","version":)" + other + "}"));
  EXPECT_EQ(server_said_, "node n speaks protocol version " + other + ", this one " + own +
                              "; install the same Lifeboat on both");
}

TEST_F(LinkTest, NothingLargeBeforeTheGreeting) {
  serve(frame(Kind::kRequest, "", 5000));
  EXPECT_EQ(server_said_, "a message of 5000 bytes before the greeting from 127.0.0.1");
}

TEST_F(LinkTest, AHelloBeyondItsLimit) {
  serve(frame(Kind::kHello, "", 4097));
  EXPECT_EQ(server_said_, "a Hello frame of 4097 bytes; at most 4096 are allowed");
}

TEST_F(LinkTest, Garbage) {
  serve("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(server_said_, "the peer does not speak Lifeboat's protocol (wrong magic)");
}

TEST_F(LinkTest, AHelloThatIsNoJson) {
  serve(frame(Kind::kHello, "[1]"));
  EXPECT_EQ(server_said_, "expected a JSON object");
}

TEST_F(LinkTest, AnotherKindThanDue) {
  serve(frame(Kind::kCommit, "{}"));
  EXPECT_EQ(server_said_, "127.0.0.1 sent Commit where Hello was due");
}

TEST_F(LinkTest, SilenceHasALimit) {
  limit_ = kShort;
  const auto start = SteadyClock::now();
  serve("");
  EXPECT_EQ(server_said_, "receive from 127.0.0.1: no progress before the deadline");
  EXPECT_LT(elapsed_ms(start), 5000);
}

TEST_F(LinkTest, HalfAHeaderHasALimit) {
  limit_ = kShort;
  serve("LBT1");
  EXPECT_EQ(server_said_, "receive from 127.0.0.1: no progress before the deadline");
}

TEST_F(LinkTest, HalfABodyHasALimit) {
  limit_ = kShort;
  serve(frame(Kind::kHello, "{", 100));
  EXPECT_EQ(server_said_, "receive from 127.0.0.1: no progress before the deadline");
}

TEST_F(LinkTest, APeerThatLeaves) {
  serve(frame(Kind::kHello, "{", 100), Milliseconds(20));
  EXPECT_EQ(server_said_, "receive from 127.0.0.1: the peer closed the connection");
}

TEST_F(LinkTest, AFailureKeepsItsCodeStepAndText) {
  call(frame(Kind::kHello, kHello) +
       frame(Kind::kFailed, R"({"code":"conflict","step":"restore","message":"no"})"));
  EXPECT_EQ(client_said_, "conflict: restore: no");
}

TEST_F(LinkTest, AFailureOfANewerPeer) {
  call(frame(Kind::kHello, kHello) + frame(Kind::kFailed, R"({"code":"brand-new"})"));
  EXPECT_EQ(client_said_, "system: no reason given");
}

TEST_F(LinkTest, AServerThatSaysNothing) {
  limit_ = kShort;
  call("");
  EXPECT_EQ(client_said_, "timeout: receive from 127.0.0.1: no progress before the deadline");
}

TEST_F(LinkTest, AServerOfAnotherCluster) {
  call(frame(Kind::kHello, hello_of("d")));
  EXPECT_EQ(client_said_, "refused: node there belongs to cluster 'd', this one to 'c'");
}

TEST_F(LinkTest, NobodyListens) {
  const std::uint16_t free_port = port();
  acceptor_.close();
  std::string said;
  const auto dial = [](std::uint16_t to, std::string& out) -> awaitable<void> {
    PeerAddress nobody{"there", "127.0.0.1", to};
    auto link = co_await Link::connect(std::move(nobody), kHere, kLimit);
    if (!link) out = link.error().message;
    PeerAddress name{"there", "localhost", to};
    auto bad = co_await Link::connect(std::move(name), kHere, kLimit);
    if (!bad) out += "|" + bad.error().message;
  };
  std::vector<awaitable<void>> tasks;
  tasks.push_back(dial(free_port, said));
  run(std::move(tasks));
  EXPECT_EQ(said, "connect to 127.0.0.1 port " + std::to_string(free_port) +
                      ": Connection refused|'localhost' is not an IP address");
}

TEST(HashMatches, DamageIsSeen) {
  unsigned char bytes[] = "some bytes of an image";
  protocol::DataHeader header;
  header.hash = XXH3_64bits(bytes, sizeof bytes);
  EXPECT_TRUE(hash_matches(header, bytes, sizeof bytes));
  EXPECT_FALSE(hash_matches(header, bytes, sizeof bytes - 1));
  bytes[3] ^= 1;
  EXPECT_FALSE(hash_matches(header, bytes, sizeof bytes));
}

}  // namespace
}  // namespace lifeboat
