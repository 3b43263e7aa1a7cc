// embedded.hpp - the registry in one daemon: an SQLite file in its state_dir.
//
// Each change is on disk (WAL, synchronous=FULL) before it is answered, so kill -9 and a power cut
// lose none. SQLite works on a thread of its own: a slow disk holds up no event loop.
//
// Leases run by this machine's monotonic clock, less what its daemon stood still (OwnStall): nobody could keep them
// alive meanwhile. When the registry was closed nobody could, either, so after opening each has a full term.
#pragma once

#include <functional>
#include <map>
#include <memory>

#include "registry/registry.hpp"

struct sqlite3;

namespace lifeboat {

class EmbeddedRegistry : public Registry {
 public:
  using Clock = std::function<SteadyClock::time_point()>;

  // kSystem: it cannot be opened, or is none.
  static Result<std::unique_ptr<EmbeddedRegistry>> open(const std::string& path,
                                                        Clock clock = SteadyClock::now);
  ~EmbeddedRegistry() override;
  // Once the event loop has ended, before it goes.
  void stop() { thread_.join(); }

  awaitable<Result<std::optional<Entry>>> get(std::string key) override;
  awaitable<Result<Swap>> try_swap(SwapRequest request) override;
  awaitable<Result<std::vector<Entry>>> page(Selection request) override;
  awaitable<Result<LeaseId>> grant(Milliseconds term) override;
  awaitable<Status> keep_alive(LeaseId lease) override;
  awaitable<Status> revoke(LeaseId lease) override;

 private:
  struct Lease {
    Milliseconds term{};
    SteadyClock::time_point ends;
  };
  struct Closer {
    void operator()(sqlite3* db) const;
  };
  using Database = std::unique_ptr<sqlite3, Closer>;

  EmbeddedRegistry(Database database, Clock clock);
  // All below: on thread_ only.
  Status prepare();
  Result<std::optional<Entry>> read(const std::string& key);
  Result<Swap> change(const SwapRequest& request);
  Result<Swap> change_in_transaction(const SwapRequest& request);
  Result<std::vector<Entry>> read_page(const Selection& request);
  Result<LeaseId> add_lease(Milliseconds term);
  Status renew(LeaseId lease);
  Status drop_lease(LeaseId lease);
  // Ends the leases that nobody has kept alive.
  Status expire();

  template <class R>
  awaitable<R> on_thread(std::function<R()> work);

  Database database_;
  Clock clock_;
  std::map<LeaseId, Lease> leases_;
  SteadyClock::time_point none_ends_before_{};  // no lease does; they are looked at then
  asio::thread_pool thread_{1};
};

}  // namespace lifeboat
