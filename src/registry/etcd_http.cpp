#include "registry/etcd_http.hpp"

namespace lifeboat {

using asio::ip::tcp;

namespace {

constexpr std::size_t kAnswerBytesMax = 16 << 20;

// kTimeout from here on: the request may have arrived.
awaitable<Result<HttpResponse>> exchange(Stream& stream, const HttpRequest& request, beast::flat_buffer& buffer) {
  const auto send_error = co_await write_http(stream, request);
  if (send_error) co_return fail(Errc::kTimeout, "etcd was lost: " + send_error.message());
  HttpResponseParser parser;
  parser.body_limit(kAnswerBytesMax);
  const auto error = co_await read_http(stream, buffer, parser);
  if (error) co_return fail(Errc::kTimeout, "etcd does not answer: " + error.message());
  co_return parser.release();
}

// An address as it is; only names are asked for.
awaitable<Result<std::vector<tcp::endpoint>>> resolve(const EtcdEndpoint& endpoint, Milliseconds limit) {
  std::vector<tcp::endpoint> found;
  const auto port = static_cast<std::uint16_t>(std::stoul(endpoint.port));
  boost::system::error_code is_name;
  const auto address = asio::ip::make_address(endpoint.host, is_name);
  if (!is_name) {
    found.emplace_back(address, port);
    co_return found;
  }
  tcp::resolver resolver(co_await asio::this_coro::executor);
  const Deadline deadline(resolver.get_executor(), limit, [&resolver] { resolver.cancel(); });
  auto [error, results] = co_await resolver.async_resolve(endpoint.host, endpoint.port, use_tuple);
  if (error) co_return fail(Errc::kUnavailable, "etcd at " + endpoint.host + ": " + error.message());
  for (const auto& result : results) found.push_back(result.endpoint());
  co_return found;
}

Result<json::object> read_answer(const HttpResponse& response, const std::string& path) {
  auto body = parse_object(response.body());
  const auto status = response.result();
  if (status == http::status::ok) {
    if (!body) return tl::unexpected<Error>(body.error().context("etcd " + path));
    return body;
  }
  const std::string why = "etcd " + path + ": HTTP " + std::to_string(response.result_int()) + " " +
                          (body ? string_or(*body, "error") : response.body().substr(0, 200));
  if (status == http::status::not_found) return fail(Errc::kNotFound, why);
  // No leader, a change of leaders, its own deadline: it may have been done.
  if (to_status_class(status) == http::status_class::server_error) return fail(Errc::kTimeout, why);
  return fail(Errc::kInvalid, why);
}

// A new connection that takes only a certificate for `host`, a name or an IP address. Null: no memory.
SSL* connection_to(SSL_CTX& context, const std::string& host) {
  SslPtr ssl(SSL_new(&context));
  if (!ssl) return nullptr;
  boost::system::error_code is_name;
  (void)asio::ip::make_address(host, is_name);
  bool set = false;
  if (is_name) {
    set = SSL_set1_host(ssl.get(), host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl.get(), host.c_str()) == 1;
  } else {
    set = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), host.c_str()) == 1;
  }
  return set ? ssl.release() : nullptr;
}

}  // namespace

Result<EtcdEndpoint> etcd_endpoint_from(const std::string& url) {
  EtcdEndpoint endpoint;
  std::string rest;
  if (url.rfind("https://", 0) == 0) {
    rest = url.substr(8);
  } else if (url.rfind("http://", 0) == 0) {
    rest = url.substr(7);
    endpoint.tls = false;
  }
  const auto colon = rest.find(':');
  if (colon != std::string::npos) {
    endpoint.host = rest.substr(0, colon);
    endpoint.port = rest.substr(colon + 1);
  }
  const bool digits = !endpoint.port.empty() && endpoint.port.size() <= 5 &&
                      endpoint.port.find_first_not_of("0123456789") == std::string::npos;
  if (endpoint.host.empty() || !digits || std::stoul(endpoint.port) > 65535) {
    return fail(Errc::kInvalid, "'" + url + "' is no URL such as https://10.1.0.1:2379");
  }
  return endpoint;
}

EtcdHttp::EtcdHttp(const asio::any_io_executor& executor, Settings settings)
    : executor_(executor), settings_(std::move(settings)) {}

Result<std::shared_ptr<EtcdHttp>> EtcdHttp::create(const asio::any_io_executor& executor,
                                                   Settings settings) {
  std::shared_ptr<EtcdHttp> made(new EtcdHttp(executor, std::move(settings)));
  for (const EtcdEndpoint& endpoint : made->settings_.endpoints) {
    if (!endpoint.tls) continue;
    CHECK_OK(made->load_certificates());
    break;
  }
  return made;
}

Status EtcdHttp::load_certificates() {
  const auto failed = [](const std::string& file) {
    return fail_openssl(Errc::kSystem, "registry: cannot use " + file);
  };
  tls_.reset(SSL_CTX_new(TLS_client_method()));
  if (!tls_ || SSL_CTX_set_min_proto_version(tls_.get(), TLS1_2_VERSION) != 1) {
    return fail_openssl(Errc::kSystem, "registry: TLS");
  }
  SSL_CTX_set_verify(tls_.get(), SSL_VERIFY_PEER, nullptr);
  if (SSL_CTX_load_verify_file(tls_.get(), settings_.ca.c_str()) != 1) return failed(settings_.ca);
  if (settings_.cert.empty()) return {};
  if (SSL_CTX_use_certificate_chain_file(tls_.get(), settings_.cert.c_str()) != 1) return failed(settings_.cert);
  if (SSL_CTX_use_PrivateKey_file(tls_.get(), settings_.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return failed(settings_.key);
  }
  return {};
}

// So that each member can be tried once and one of them twice.
Milliseconds EtcdHttp::attempt_limit() const {
  return settings_.timeout / static_cast<int>(settings_.endpoints.size() + 1);
}

void EtcdHttp::disconnect() {
  stream_.reset();
  buffer_.clear();
}

awaitable<Status> EtcdHttp::connect() {
  const EtcdEndpoint& endpoint = settings_.endpoints[current_];
  const std::string where = "etcd at " + endpoint.host + ":" + endpoint.port;
  CO_TRY(const std::vector<tcp::endpoint> found, co_await resolve(endpoint, attempt_limit()));
  std::optional<Stream> stream;
  Stream::Error error = asio::error::not_found;
  const auto end = SteadyClock::now() + attempt_limit();
  for (std::size_t i = 0; i < found.size() && error; ++i) {
    stream.emplace(executor_);
    stream->expires_after(std::chrono::duration_cast<Milliseconds>(end - SteadyClock::now()));
    error = co_await stream->connect(found[i]);
  }
  if (error) co_return fail(Errc::kUnavailable, where + ": " + error.message());
  stream->socket().set_option(tcp::no_delay(true), error);
  if (endpoint.tls) {
    SSL* const ssl = connection_to(*tls_, endpoint.host);
    if (ssl == nullptr) co_return fail_openssl(Errc::kSystem, where + ": TLS");
    const auto refused = co_await stream->encrypt(ssl, Stream::Side::kClient);
    if (refused) co_return fail(Errc::kUnavailable, where + ": TLS: " + refused.message());
  }
  stream_ = std::move(stream);
  co_return Status{};
}

awaitable<Result<json::object>> EtcdHttp::post_to_current(const std::string& path,
                                                          const std::string& body) {
  if (!stream_) CO_CHECK_OK(co_await connect());
  HttpRequest request(http::verb::post, path, 11);
  request.set(http::field::host, settings_.endpoints[current_].host);
  request.set(http::field::content_type, "application/json");
  request.keep_alive(true);
  request.body() = body;
  request.prepare_payload();
  stream_->expires_after(attempt_limit());
  const auto response = co_await exchange(*stream_, request, buffer_);
  if (!response) co_return tl::unexpected<Error>(response.error());
  stream_->expires_never();
  if (!response->keep_alive()) disconnect();
  co_return read_answer(*response, path);
}

awaitable<Result<json::object>> EtcdHttp::post(std::string path, json::object body, bool repeatable) {
  const AsyncMutex::Lock lock = co_await asking_.lock();
  const std::string text = json::serialize(body);
  const bool kept = stream_.has_value();
  // A kept connection may have ended long ago: its member has a second chance.
  const std::size_t attempts = settings_.endpoints.size() + (kept ? 1 : 0);
  Error last(Errc::kUnavailable, "no endpoint of etcd is configured");
  for (std::size_t attempt = 0; attempt < attempts; ++attempt) {
    auto answer = co_await post_to_current(path, text);
    if (answer) co_return answer;
    last = answer.error();
    const bool lost = last.code == Errc::kTimeout;
    if (!lost && last.code != Errc::kUnavailable) co_return answer;
    disconnect();
    if (!(kept && attempt == 0)) current_ = (current_ + 1) % settings_.endpoints.size();
    if (lost && !repeatable) co_return answer;
  }
  co_return tl::unexpected<Error>(last);
}

}  // namespace lifeboat
