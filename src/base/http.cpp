#include "base/http.hpp"

namespace lifeboat {
namespace {

template <bool is_request>
awaitable<Stream::Error> read_message(Stream& stream, beast::flat_buffer& buffer,
                                      http::basic_parser<is_request>& parser) {
  constexpr std::size_t kPiece = 16 << 10;
  parser.eager(true);
  for (;;) {
    // What is here already may be more than one call takes.
    for (std::size_t taken = 1; taken > 0 && buffer.size() > 0 && !parser.is_done();) {
      Stream::Error error;
      taken = parser.put(buffer.data(), error);
      buffer.consume(taken);
      if (error == http::error::need_more) break;
      if (error) co_return error;
    }
    if (parser.is_done()) co_return Stream::Error();
    const asio::mutable_buffer space = buffer.prepare(kPiece);
    Stream::Error error;
    std::size_t n = 0;
    std::tie(error, n) = co_await stream.read_some(space);
    if (error == asio::error::eof && !parser.got_some()) error = http::error::end_of_stream;
    if (error == asio::error::eof) {
      parser.put_eof(error);
      co_return error;
    }
    if (error) co_return error;
    buffer.commit(n);
  }
}

template <bool is_request>
awaitable<Stream::Error> write_message(Stream& stream,
                                       const http::message<is_request, http::string_body>& message) {
  http::serializer<is_request, http::string_body> serializer(message);
  while (!serializer.is_done()) {
    Stream::Error error;
    std::vector<asio::const_buffer> buffers;
    serializer.next(error, [&buffers](Stream::Error&, const auto& pieces) {
      for (const asio::const_buffer piece : beast::buffers_range_ref(pieces)) buffers.push_back(piece);
    });
    if (error) co_return error;
    std::size_t n = 0;
    std::tie(error, n) = co_await stream.write(std::move(buffers));
    if (error) co_return error;
    serializer.consume(n);
  }
  co_return Stream::Error();
}

}  // namespace

awaitable<Stream::Error> read_http(Stream& stream, beast::flat_buffer& buffer, HttpRequestParser& parser) {
  return read_message(stream, buffer, parser);
}

awaitable<Stream::Error> read_http(Stream& stream, beast::flat_buffer& buffer, HttpResponseParser& parser) {
  return read_message(stream, buffer, parser);
}

awaitable<Stream::Error> write_http(Stream& stream, const HttpRequest& request) {
  return write_message(stream, request);
}

awaitable<Stream::Error> write_http(Stream& stream, const HttpResponse& response) {
  return write_message(stream, response);
}

}  // namespace lifeboat
