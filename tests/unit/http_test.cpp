// HTTP over a connection that brings its bytes in pieces, or ends too early.
#include "base/http.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

using Local = asio::local::stream_protocol;

class HttpTest : public testing::Test {
 protected:
  HttpTest() { asio::local::connect_pair(theirs_, here_); }

  // Sends `bytes` in pieces of `size`, as long as somebody reads, and ends.
  awaitable<void> send(std::string bytes, std::size_t size) {
    Stream stream(std::move(theirs_));
    for (std::size_t at = 0; at < bytes.size(); at += size) {
      std::vector<asio::const_buffer> piece{asio::buffer(bytes.data() + at, std::min(size, bytes.size() - at))};
      const auto sent = co_await stream.write(std::move(piece));
      if (sent.first) co_return;
    }
  }
  awaitable<void> receive(std::uint64_t body_max) {
    Stream stream(std::move(here_));
    stream.expires_after(Milliseconds(5'000));
    beast::flat_buffer buffer;
    while (!ended_) {
      HttpRequestParser parser;
      parser.header_limit(200);
      parser.body_limit(body_max);
      ended_ = co_await read_http(stream, buffer, parser);
      if (!ended_) bodies_.push_back(parser.get().body());
    }
  }
  void exchange(std::string bytes, std::size_t size, std::uint64_t body_max = 1 << 20) {
    run_detached(context_.get_executor(), "sending", send(std::move(bytes), size));
    run_detached(context_.get_executor(), "receiving", receive(body_max));
    context_.run();
  }

  asio::io_context context_{1};
  Local::socket theirs_{context_};
  Local::socket here_{context_};
  std::vector<std::string> bodies_;
  Stream::Error ended_;
};

std::string request(const std::string& body) {
  return "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

TEST_F(HttpTest, RequestsInPiecesOfAByte) {
  exchange(request("one") + request("") + request("three"), 1);
  EXPECT_EQ(bodies_, (std::vector<std::string>{"one", "", "three"}));
  EXPECT_EQ(ended_, http::error::end_of_stream);
}

TEST_F(HttpTest, SeveralRequestsAtOnce) {
  exchange(request("one") + request("two") + request("three"), 4096);
  EXPECT_EQ(bodies_, (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_EQ(ended_, http::error::end_of_stream);
}

TEST_F(HttpTest, ChunksAndALongBody) {
  const std::string body(300'000, 'x');
  exchange("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" + request(body), 7000);
  EXPECT_EQ(bodies_, (std::vector<std::string>{"abcde", body}));
}

TEST_F(HttpTest, EndsInTheMiddle) {
  exchange(request("one").substr(0, 53), 4096);
  EXPECT_TRUE(bodies_.empty());
  EXPECT_EQ(ended_, http::error::partial_message);
}

TEST_F(HttpTest, NotMoreThanTheLimits) {
  exchange("GET / HTTP/1.1\r\nX: " + std::string(300, 'x'), 10);
  EXPECT_EQ(ended_, http::error::header_limit);
}

TEST_F(HttpTest, NoLongerBodyThanAllowed) {
  exchange(request("12345"), 4096, 4);
  EXPECT_EQ(ended_, http::error::body_limit);
  EXPECT_TRUE(bodies_.empty());
}

TEST_F(HttpTest, AnswersArriveWhole) {
  HttpResponse answer(http::status::ok, 11);
  answer.body() = std::string(2'000'000, 'y');
  answer.prepare_payload();
  std::string seen;
  const auto write = [&]() -> awaitable<void> {
    Stream stream(std::move(theirs_));
    const auto error = co_await write_http(stream, answer);
    EXPECT_FALSE(error) << error.message();
  };
  const auto read = [&]() -> awaitable<void> {
    Stream stream(std::move(here_));
    beast::flat_buffer buffer;
    HttpResponseParser parser;
    parser.body_limit(4 << 20);
    const auto error = co_await read_http(stream, buffer, parser);
    EXPECT_FALSE(error) << error.message();
    seen = parser.get().body();
  };
  run_detached(context_.get_executor(), "writing", write());
  run_detached(context_.get_executor(), "reading", read());
  context_.run();
  EXPECT_EQ(seen, answer.body());
}

TEST_F(HttpTest, WhoSaysNothingIsNotWaitedFor) {
  const auto read = [&]() -> awaitable<void> {
    Stream stream(std::move(here_));
    stream.expires_after(Milliseconds(50));
    beast::flat_buffer buffer;
    HttpRequestParser parser;
    ended_ = co_await read_http(stream, buffer, parser);
  };
  run_detached(context_.get_executor(), "reading", read());
  context_.run();
  EXPECT_EQ(ended_, beast::error::timeout);
}

}  // namespace
}  // namespace lifeboat
