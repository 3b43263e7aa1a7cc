// Connections that are kept for who asks again, over loopback.
#include "kept_links.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

using asio::ip::tcp;
using protocol::Kind;

constexpr Milliseconds kLimit{3000};
const LinkSelf kHere{"c", "here"};
const LinkSelf kThere{"c", "there"};

class KeptLinksTest : public ::testing::Test {
 protected:
  asio::io_context context_{1};
  tcp::acceptor acceptor_{context_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)};
  KeptLinks links_;
  int accepted_ = 0;

  // Answers `requests` on one connection after the other, then closes it.
  awaitable<void> serve(int requests) {
    for (;;) {
      auto [error, socket] = co_await acceptor_.async_accept(use_tuple);
      if (error) co_return;
      ++accepted_;
      Link link(std::move(socket));
      const auto peer = co_await link.accept_hello(kThere, kLimit);
      for (int i = 0; peer && i < requests; ++i) {
        const auto frame = co_await link.receive(kLimit);
        if (!frame) break;
        json::object body{{"request", i}};
        (void)co_await link.send(Kind::kResponse, std::move(body), kLimit);
      }
    }
  }

  awaitable<Result<Link>> connect() {
    const PeerAddress to{"there", "127.0.0.1", acceptor_.local_endpoint().port()};
    co_return co_await Link::connect(to, kHere, kLimit);
  }

  // How many requests the connection it went over had answered before; -1: none answered.
  awaitable<std::int64_t> ask() {
    auto link = links_.take("there");
    if (!link) {
      auto fresh = co_await connect();
      if (!fresh) co_return -1;
      link = std::move(*fresh);
    }
    json::object body;
    (void)co_await link->send(Kind::kRequest, std::move(body), kLimit);
    const auto answer = co_await link->expect(Kind::kResponse, kLimit);
    if (!answer) co_return -1;
    links_.keep(context_.get_executor(), "there", std::move(*link));
    co_return answer->at("request").to_number<std::int64_t>();
  }

  void run(int requests, awaitable<void> test) {
    asio::co_spawn(context_, serve(requests), asio::detached);
    asio::co_spawn(context_, std::move(test), [&](std::exception_ptr error) {
      EXPECT_FALSE(error);
      acceptor_.close();
    });
    context_.run_for(std::chrono::seconds(10));
  }
};

TEST_F(KeptLinksTest, WhoAsksAgainNeedsNoOtherConnection) {
  run(10, [&]() -> awaitable<void> {
    for (std::int64_t i = 0; i < 3; ++i) EXPECT_EQ(co_await ask(), i);
    EXPECT_EQ(accepted_, 1);
  }());
}

TEST_F(KeptLinksTest, OneThatTheOtherEndHasClosedIsNotTaken) {
  run(1, [&]() -> awaitable<void> {
    EXPECT_EQ(co_await ask(), 0);
    co_await sleep_for(Milliseconds(100));
    EXPECT_FALSE(links_.take("there"));
    EXPECT_EQ(links_.count(), 0u);
    EXPECT_EQ(co_await ask(), 0);
    EXPECT_EQ(accepted_, 2);
  }());
}

TEST_F(KeptLinksTest, OneThatNobodyTakesIsClosedInTime) {
  run(10, [&]() -> awaitable<void> {
    EXPECT_EQ(co_await ask(), 0);
    EXPECT_EQ(links_.count(), 1u);
    co_await sleep_for(2 * KeptLinks::kKept + Milliseconds(200));
    EXPECT_EQ(links_.count(), 0u);
    EXPECT_EQ(co_await ask(), 0);  // of another one
    EXPECT_EQ(accepted_, 2);
  }());
}

TEST_F(KeptLinksTest, OneThatIsTakenIsNobodyElses) {
  run(10, [&]() -> awaitable<void> {
    EXPECT_EQ(co_await ask(), 0);
    EXPECT_TRUE(links_.take("there"));
    EXPECT_FALSE(links_.take("there"));
    EXPECT_FALSE(links_.take("elsewhere"));
  }());
}

}  // namespace
}  // namespace lifeboat
