// node_metrics.hpp - what a node counts since its daemon started, for its metrics page (agent_metrics.cpp).
//
// Nothing of it is kept: Prometheus expects counters to begin anew with the process. A migration counts at
// its source, an arrival at its target, each when it is over; what a migration under way has sent so far is
// in the totals at once.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include "metrics.hpp"
#include "report.hpp"

namespace lifeboat {

enum class RegistryCall { kGet, kSwap, kPage, kGrant, kKeepAlive, kRevoke };
inline constexpr std::size_t kRegistryCalls = 6;
// What is found and removed though nobody should have left it there.
enum class Leftover { kCgroup, kLink, kLayer, kImages };
inline constexpr std::size_t kLeftovers = 4;

class NodeMetrics {
 public:
  NodeMetrics();

  void migration_began(std::shared_ptr<const MigrationReport> report);
  void migration_ended(const std::shared_ptr<const MigrationReport>& report);
  // One that a restart of this daemon had interrupted, at its source, once its outcome is known.
  void interrupted_ended(bool committed) { ++(committed ? interrupted_committed_ : interrupted_failed_); }
  void arrival_ended(bool committed) { ++(committed ? arrivals_committed_ : arrivals_failed_); }
  // `answered`: whatever it said.
  void registry_called(RegistryCall call, double seconds, bool answered);
  void removed(Leftover what) { ++leftovers_.at(static_cast<std::size_t>(what)); }
  void pager_died() { ++pagers_died_; }
  void container_lost() { ++containers_lost_; }

  void add_to(metrics::Page& page) const;

 private:
  struct Totals {
    std::uint64_t bytes = 0;
    std::uint64_t frozen_bytes = 0;
    std::uint64_t rounds = 0;
    void add(const MigrationReport& report);
  };
  struct Registry {
    metrics::Histogram seconds;
    std::uint64_t errors = 0;
  };
  void add_migrations(metrics::Page& page) const;
  void add_registry(metrics::Page& page) const;

  std::chrono::system_clock::time_point started_at_ = std::chrono::system_clock::now();
  std::set<std::shared_ptr<const MigrationReport>> under_way_;
  Totals ended_;
  std::map<std::pair<MigrationMode, std::string_view>, std::uint64_t> outcomes_;
  std::map<MigrationMode, metrics::Histogram> downtime_;
  std::map<MigrationMode, metrics::Histogram> total_;
  std::uint64_t interrupted_committed_ = 0;
  std::uint64_t interrupted_failed_ = 0;
  std::uint64_t arrivals_committed_ = 0;
  std::uint64_t arrivals_failed_ = 0;
  std::map<RegistryCall, Registry> registry_;
  bool registry_up_ = false;
  std::array<std::uint64_t, kLeftovers> leftovers_{};
  std::uint64_t pagers_died_ = 0;
  std::uint64_t containers_lost_ = 0;
};

}  // namespace lifeboat
