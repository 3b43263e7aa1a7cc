// etcd.hpp - the registry in an etcd v3 cluster, through its JSON gateway (/v3/...), with no other
// client: three or more members, so that no single machine is needed.
//
// Reads are linearizable: a member that is cut off does not answer rather than give an old state.
#pragma once

#include "registry/etcd_http.hpp"
#include "registry/held.hpp"
#include "registry/registry.hpp"

namespace lifeboat {

class EtcdRegistry : public Registry {
 public:
  // Keys lie below `prefix`.
  EtcdRegistry(const asio::any_io_executor& executor, std::shared_ptr<EtcdHttp> http, std::string prefix)
      : http_(executor, std::move(http)), prefix_(std::move(prefix)) {}

  awaitable<Result<std::optional<Entry>>> get(std::string key) override;
  awaitable<Result<Swap>> try_swap(SwapRequest request) override;
  awaitable<Result<std::vector<Entry>>> page(Selection request) override;
  awaitable<Result<LeaseId>> grant(Milliseconds term) override;
  awaitable<Status> keep_alive(LeaseId lease) override;
  awaitable<Status> revoke(LeaseId lease) override;

 private:
  awaitable<Result<json::object>> post(std::string path, json::object body, bool repeatable);
  [[nodiscard]] Result<std::vector<Entry>> entries_from(const json::object& range) const;
  // The one entry of `key`, if there is one.
  [[nodiscard]] Result<std::optional<Entry>> found_from(const json::object& range, const std::string& key) const;

  Held<EtcdHttp> http_;
  std::string prefix_;
};

}  // namespace lifeboat
