// measured.hpp - a registry that tells how long each call took and how it ended, for the metrics.
#pragma once

#include <memory>
#include <utility>

#include "node_metrics.hpp"
#include "registry/registry.hpp"

namespace lifeboat {

class MeasuredRegistry : public Registry {
 public:
  // `metrics` outlives it.
  MeasuredRegistry(std::unique_ptr<Registry> inner, NodeMetrics& metrics)
      : inner_(std::move(inner)), metrics_(metrics) {}

  awaitable<Result<std::optional<Entry>>> get(std::string key) override;
  awaitable<Result<Swap>> try_swap(SwapRequest request) override;
  awaitable<Result<std::vector<Entry>>> page(Selection request) override;
  awaitable<Result<LeaseId>> grant(Milliseconds term) override;
  awaitable<Status> keep_alive(LeaseId lease) override;
  awaitable<Status> revoke(LeaseId lease) override;

 private:
  template <class T>
  awaitable<Result<T>> measure(RegistryCall call, awaitable<Result<T>> request);

  std::unique_ptr<Registry> inner_;
  NodeMetrics& metrics_;
};

}  // namespace lifeboat
