#include "sim/registry.hpp"

#include <cstdio>

namespace lifeboat::sim {

namespace {

constexpr Micros kTimeout = 2 * kSecond;  // of a request

}  // namespace

void RegistryServer::expire() {
  for (auto at = leases_.begin(); at != leases_.end();) {
    if (at->second.ends > events_.now()) {
      ++at;
      continue;
    }
    for (const std::string& key : at->second.keys) kept_.erase(key);
    at = leases_.erase(at);
  }
}

Swap RegistryServer::swap(const SwapRequest& request, bool& no_lease) {
  expire();
  ++swaps;
  Swap out;
  const auto at = kept_.find(request.key);
  const std::uint64_t now = at == kept_.end() ? kAbsent : at->second.entry.version;
  if (now != request.version) {
    if (at != kept_.end()) out.found = at->second.entry;
    return out;
  }
  no_lease = request.lease != kNoLease && !leases_.contains(request.lease);
  if (no_lease) return out;
  if (at != kept_.end() && at->second.lease != kNoLease) leases_[at->second.lease].keys.erase(request.key);
  if (request.key == trace) {
    std::printf("%10.4f registry: %s\n", static_cast<double>(events_.now()) / static_cast<double>(kSecond),
                request.value.value_or("removed").c_str());
  }
  out.written = true;
  out.version = ++version_;
  if (!request.value) {
    kept_.erase(request.key);
    return out;
  }
  kept_[request.key] = Kept{Entry{request.key, *request.value, out.version}, request.lease};
  if (request.lease != kNoLease) leases_[request.lease].keys.insert(request.key);
  return out;
}

std::optional<Entry> RegistryServer::get(const std::string& key) {
  expire();
  const auto at = kept_.find(key);
  if (at == kept_.end()) return std::nullopt;
  return at->second.entry;
}

std::vector<Entry> RegistryServer::page(const std::string& prefix, const std::string& after, std::size_t max) {
  expire();
  std::vector<Entry> out;
  for (auto at = after.empty() ? kept_.lower_bound(prefix) : kept_.upper_bound(after);
       at != kept_.end() && at->first.starts_with(prefix) && out.size() < max; ++at) {
    out.push_back(at->second.entry);
  }
  return out;
}

LeaseId RegistryServer::grant(Micros term) {
  leases_[++last_lease_] = Lease{term, events_.now() + term, {}};
  return last_lease_;
}

bool RegistryServer::keep_alive(LeaseId lease) {
  expire();
  const auto at = leases_.find(lease);
  if (at == leases_.end()) return false;
  at->second.ends = events_.now() + at->second.term;
  return true;
}

void RegistryServer::restarted() {
  for (auto& [id, lease] : leases_) lease.ends = events_.now() + lease.term;
}

template <class R>
awaitable<Result<R>> SimulatedRegistry::request(std::function<R()> work) {
  if (route_->ended) co_return fail(Errc::kCancelled, "the daemon has ended");
  ++route_->server.requests;
  const auto way = [this] { return events_.happens(0.01) ? events_.between(kMs, 500 * kMs) : events_.between(50, 600); };
  if (!route_->reachable()) {
    co_await events_.sleep(events_.between(100, 300 * kMs));
    co_return fail(Errc::kUnavailable, "the registry cannot be reached");
  }
  co_await events_.sleep(way());
  if (!route_->reachable() || events_.happens(route_->lost)) {
    // It may arrive yet, when nobody waits for it any more.
    if (events_.happens(0.5)) {
      events_.after(events_.between(0, 6 * kSecond), [work, route = route_] { (void)work(); });
    }
    co_await events_.sleep(kTimeout);
    co_return fail(Errc::kTimeout, "the registry has not answered");
  }
  R answer = work();
  if (events_.happens(route_->lost)) {
    co_await events_.sleep(kTimeout);
    co_return fail(Errc::kTimeout, "the registry has not answered");
  }
  co_await events_.sleep(way());
  co_return answer;
}

awaitable<Result<std::optional<Entry>>> SimulatedRegistry::get(std::string key) {
  std::function<std::optional<Entry>()> work = [this, key] { return route_->server.get(key); };
  co_return co_await request(std::move(work));
}

awaitable<Result<Swap>> SimulatedRegistry::try_swap(SwapRequest request_made) {
  auto no_lease = std::make_shared<bool>(false);
  std::function<Swap()> work = [&server = route_->server, request_made, no_lease] {
    return server.swap(request_made, *no_lease);
  };
  auto swapped = co_await request(std::move(work));
  if (*no_lease) co_return fail(Errc::kNotFound, "there is no such lease");
  co_return swapped;
}

awaitable<Result<std::vector<Entry>>> SimulatedRegistry::page(Selection wanted) {
  std::function<std::vector<Entry>()> work = [this, wanted = std::move(wanted)] {
    return route_->server.page(wanted.prefix, wanted.after, kPageEntries);
  };
  co_return co_await request(std::move(work));
}

awaitable<Result<LeaseId>> SimulatedRegistry::grant(Milliseconds term) {
  std::function<LeaseId()> work = [this, term] { return route_->server.grant(term.count() * kMs); };
  co_return co_await request(std::move(work));
}

awaitable<Status> SimulatedRegistry::keep_alive(LeaseId lease) {
  std::function<bool()> work = [this, lease] { return route_->server.keep_alive(lease); };
  CO_TRY(const bool kept, co_await request(std::move(work)));
  if (!kept) co_return fail(Errc::kNotFound, "the lease is lost");
  co_return Status{};
}

awaitable<Status> SimulatedRegistry::revoke(LeaseId) { co_return Status{}; }

}  // namespace lifeboat::sim
