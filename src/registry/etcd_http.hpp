// etcd_http.hpp - one conversation with an etcd cluster's JSON gateway: requests over HTTP/1.1 on a kept
// connection (TLS, both sides authenticated, for https), to the next member when one does not answer.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/blocking.hpp"
#include "base/http.hpp"
#include "base/json.hpp"
#include "base/openssl.hpp"
#include "base/result.hpp"
#include "registry/endpoint.hpp"

namespace lifeboat {

class EtcdHttp {
 public:
  struct Settings {
    std::vector<EtcdEndpoint> endpoints;  // at least one
    std::string ca;                       // PEM files; of https only
    std::string cert;
    std::string key;
    Milliseconds timeout{5000};  // of a request, whatever number of members it is tried at
  };

  // kSystem: a file of TLS cannot be used.
  static Result<std::shared_ptr<EtcdHttp>> create(const asio::any_io_executor& executor, Settings settings);

  // `repeatable`: asked again at the next member when one did not answer.
  // kUnavailable: no member can be reached, nothing was sent; kTimeout: sent, and no answer, or one that
  // leaves open whether it was done; kNotFound, kInvalid: etcd says so.
  awaitable<Result<json::object>> post(std::string path, json::object body, bool repeatable);

 private:
  EtcdHttp(const asio::any_io_executor& executor, Settings settings);
  Status load_certificates();
  awaitable<Result<json::object>> post_to_current(const std::string& path, const std::string& body);
  awaitable<Status> connect();
  void disconnect();
  [[nodiscard]] Milliseconds attempt_limit() const;

  asio::any_io_executor executor_;
  Settings settings_;
  SslContextPtr tls_;  // null: no endpoint is https
  AsyncMutex asking_;
  std::size_t current_ = 0;  // of the endpoints
  std::optional<Stream> stream_;
  beast::flat_buffer buffer_;
};

}  // namespace lifeboat
