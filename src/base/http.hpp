// http.hpp - messages of HTTP/1.1 over a Stream, with Beast's parser and serializer.
#pragma once

#include "base/stream.hpp"

namespace lifeboat {

using HttpRequest = http::request<http::string_body>;
using HttpResponse = http::response<http::string_body>;
using HttpRequestParser = http::request_parser<http::string_body>;
using HttpResponseParser = http::response_parser<http::string_body>;

// A whole message, within the limits of `parser`. `buffer` keeps what came after it. end_of_stream: there is no
// further message.
awaitable<Stream::Error> read_http(Stream& stream, beast::flat_buffer& buffer, HttpRequestParser& parser);
awaitable<Stream::Error> read_http(Stream& stream, beast::flat_buffer& buffer, HttpResponseParser& parser);

awaitable<Stream::Error> write_http(Stream& stream, const HttpRequest& request);
awaitable<Stream::Error> write_http(Stream& stream, const HttpResponse& response);

}  // namespace lifeboat
