// remote.hpp - the embedded registry of another daemon, asked over the connection of daemons: requests
// `registry.*` (protocol.hpp), one at a time on one connection that is kept.
#pragma once

#include <map>

#include "migration/link.hpp"
#include "registry/held.hpp"
#include "registry/registry.hpp"

namespace lifeboat {

// The other end: runs one request on `registry`. kNotFound: no such method.
awaitable<Result<json::object>> serve_registry(Registry& registry, std::string method, json::object params);

class RemoteRegistry : public Registry {
 public:
  struct Settings {
    std::string node;                              // that keeps the registry
    std::map<std::string, std::string> addresses;  // its own, by fabric
    std::uint16_t port = 0;
    LinkSelf self;
    Milliseconds timeout{2000};  // of one request, with connecting
  };
  RemoteRegistry(const asio::any_io_executor& executor, Settings settings)
      : connection_(executor, std::make_shared<Connection>(std::move(settings))) {}

  awaitable<Result<std::optional<Entry>>> get(std::string key) override;
  awaitable<Result<Swap>> try_swap(SwapRequest request) override;
  awaitable<Result<std::vector<Entry>>> page(Selection request) override;
  awaitable<Result<LeaseId>> grant(Milliseconds term) override;
  awaitable<Status> keep_alive(LeaseId lease) override;
  awaitable<Status> revoke(LeaseId lease) override;

 private:
  class Connection {
   public:
    explicit Connection(Settings settings) : settings_(std::move(settings)) {}
    // kUnavailable: nothing was sent; kTimeout: sent, but no answer.
    awaitable<Result<json::object>> ask(std::string method, json::object params);

   private:
    awaitable<Result<json::object>> ask_once(std::string method, json::object params);
    awaitable<Status> connect();

    Settings settings_;
    AsyncMutex asking_;
    std::optional<Link> link_;
  };
  awaitable<Result<json::object>> ask(std::string method, json::object params);

  Held<Connection> connection_;
};

}  // namespace lifeboat
