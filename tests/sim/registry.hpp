// registry.hpp - a registry as the nodes of a simulation meet it: exact in itself, at the end of a network that
// loses requests and answers, and delivers some requests long after their sender has given them up.
#pragma once

#include <map>
#include <set>

#include "registry/registry.hpp"
#include "sim/events.hpp"

namespace lifeboat::sim {

// What is kept; it outlives everything.
class RegistryServer {
 public:
  explicit RegistryServer(Events& events) : events_(events) {}

  Swap swap(const SwapRequest& request, bool& no_lease);
  std::optional<Entry> get(const std::string& key);
  std::vector<Entry> page(const std::string& prefix, const std::string& after, std::size_t max);
  LeaseId grant(Micros term);
  bool keep_alive(LeaseId lease);
  void restarted();  // every lease has a full term again

  std::string trace;  // a key whose changes are printed
  std::uint64_t requests = 0;
  std::uint64_t swaps = 0;

 private:
  struct Kept {
    Entry entry;
    LeaseId lease = kNoLease;
  };
  struct Lease {
    Micros term;
    Micros ends;
    std::set<std::string> keys;
  };
  void expire();

  Events& events_;
  std::map<std::string, Kept> kept_;
  std::map<LeaseId, Lease> leases_;
  std::uint64_t version_ = 0;
  LeaseId last_lease_ = 0;
};

// The way there from one node, as long as its daemon lives.
struct RegistryRoute {
  RegistryServer& server;
  std::function<bool()> reachable;  // now, and the registry answers
  double lost = 0;                  // of requests, and of answers, each
  bool ended = false;               // the daemon has died: what it sent may arrive, nothing else is sent
};

class SimulatedRegistry : public Registry {
 public:
  SimulatedRegistry(Events& events, std::shared_ptr<RegistryRoute> route)
      : events_(events), route_(std::move(route)) {}

  awaitable<Result<std::optional<Entry>>> get(std::string key) override;
  awaitable<Result<Swap>> try_swap(SwapRequest request) override;
  awaitable<Result<std::vector<Entry>>> page(Selection request) override;
  awaitable<Result<LeaseId>> grant(Milliseconds term) override;
  awaitable<Status> keep_alive(LeaseId lease) override;
  awaitable<Status> revoke(LeaseId lease) override;

 private:
  template <class R>
  awaitable<Result<R>> request(std::function<R()> work);

  Events& events_;
  std::shared_ptr<RegistryRoute> route_;
};

}  // namespace lifeboat::sim
