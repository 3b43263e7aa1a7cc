#include "node_metrics.hpp"

#include <algorithm>
#include <cmath>

namespace lifeboat {

using metrics::Histogram;
using metrics::Page;
using metrics::Type;

namespace {

constexpr std::string_view kCommitted = "committed";
constexpr std::string_view kAborted = "aborted";
constexpr std::string_view kFailed = "failed";

// From a small container between idle nodes to a large one whose target has fallen silent.
Histogram migration_seconds() {
  return Histogram({0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100});
}

// From SQLite in this process to a cluster of etcd servers that elects a leader.
Histogram registry_seconds() {
  return Histogram({0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10});
}

std::string_view to_string(RegistryCall call) {
  switch (call) {
    case RegistryCall::kGet: return "get";
    case RegistryCall::kSwap: return "swap";
    case RegistryCall::kPage: return "page";
    case RegistryCall::kGrant: return "grant";
    case RegistryCall::kKeepAlive: return "keep_alive";
    case RegistryCall::kRevoke: return "revoke";
  }
  return "unknown";
}

std::string_view to_string(Leftover what) {
  switch (what) {
    case Leftover::kCgroup: return "cgroup";
    case Leftover::kLink: return "link";
    case Leftover::kLayer: return "layer";
    case Leftover::kImages: return "images";
  }
  return "unknown";
}

std::string_view outcome_of(const MigrationReport& report) {
  if (report.outcome == Outcome::kCommitted) return kCommitted;
  return report.cancellation.requested() ? kAborted : kFailed;
}

}  // namespace

void NodeMetrics::Totals::add(const MigrationReport& report) {
  bytes += std::max(report.bytes_sent, report.progress->bytes_sent.total());
  frozen_bytes += report.memory.bytes_frozen;
  rounds += report.rounds.size();
}

NodeMetrics::NodeMetrics() {
  // All of them from the start: what appears only with its first event has no rate before the second.
  for (const MigrationMode mode : kMigrationModes) {
    for (const std::string_view outcome : {kCommitted, kAborted, kFailed}) outcomes_[{mode, outcome}] = 0;
    downtime_.emplace(mode, migration_seconds());
    total_.emplace(mode, migration_seconds());
  }
  for (std::size_t i = 0; i < kRegistryCalls; ++i) {
    registry_.emplace(static_cast<RegistryCall>(i), Registry{registry_seconds()});
  }
}

void NodeMetrics::migration_began(std::shared_ptr<const MigrationReport> report) {
  under_way_.insert(std::move(report));
}

void NodeMetrics::migration_ended(const std::shared_ptr<const MigrationReport>& report) {
  if (under_way_.erase(report) == 0) return;
  ended_.add(*report);
  ++outcomes_[{report->mode, outcome_of(*report)}];
  if (report->outcome != Outcome::kCommitted) return;
  downtime_.at(report->mode).observe(report->times.downtime / 1000);
  total_.at(report->mode).observe(report->times.total / 1000);
}

void NodeMetrics::registry_called(RegistryCall call, double seconds, bool answered) {
  Registry& of = registry_.at(call);
  of.seconds.observe(seconds);
  if (!answered) ++of.errors;
  registry_up_ = answered;
}

void NodeMetrics::add_migrations(Page& page) const {
  Totals totals = ended_;
  double queued = 0;
  double moving = 0;
  double dirty = 0;
  double rate = 0;
  for (const auto& report : under_way_) {
    totals.add(*report);
    ++(report->phase == "queued" ? queued : moving);
    const Progress progress = progress_of(*report);
    dirty += progress.dirty_bytes_per_s;
    rate += progress.rate_bytes_per_s;
  }
  page.family("lifeboat_migrations_total", Type::kCounter,
              "Migrations of which this node was the source, by how they ended: committed, aborted (on "
              "request or past a time limit), failed.");
  for (const auto& [key, count] : outcomes_) {
    page.sample({{"mode", lifeboat::to_string(key.first)}, {"outcome", key.second}}, static_cast<double>(count));
  }
  page.family("lifeboat_interrupted_migrations_total", Type::kCounter,
              "Migrations of which this node was the source and that an end of its daemon interrupted, by how "
              "they ended: committed, failed. The next daemon counts them, here alone.");
  page.sample({{"outcome", kCommitted}}, static_cast<double>(interrupted_committed_));
  page.sample({{"outcome", kFailed}}, static_cast<double>(interrupted_failed_));
  page.family("lifeboat_migration_downtime_seconds", Type::kHistogram,
              "How long containers stood still in migrations that committed.");
  for (const auto& [mode, seconds] : downtime_) page.sample({{"mode", lifeboat::to_string(mode)}}, seconds);
  page.family("lifeboat_migration_duration_seconds", Type::kHistogram,
              "From the request, waiting included, until the source was not needed any more, of migrations "
              "that committed.");
  for (const auto& [mode, seconds] : total_) page.sample({{"mode", lifeboat::to_string(mode)}}, seconds);
  page.counter("lifeboat_migration_sent_bytes_total", "Sent by this node for migrations.",
               static_cast<double>(totals.bytes));
  page.counter("lifeboat_migration_frozen_sent_bytes_total", "Of these, while the container was frozen.",
               static_cast<double>(totals.frozen_bytes));
  page.counter("lifeboat_precopy_rounds_total", "Rounds of pre-copy made by this node.",
               static_cast<double>(totals.rounds));
  page.gauge("lifeboat_migrations_queued", "Migrations that wait for their turn to leave this node.", queued);
  page.gauge("lifeboat_migrations_running", "Migrations that leave this node.", moving);
  page.gauge("lifeboat_migration_dirty_bytes_per_second",
             "How fast containers in the rounds of pre-copy write memory, all together.", std::round(dirty));
  page.gauge("lifeboat_migration_send_bytes_per_second", "How fast this node sends for migrations just now.",
             std::round(rate));
  page.family("lifeboat_arrivals_total", Type::kCounter,
              "Migrations of which this node was the target, by how they ended: committed, failed.");
  page.sample({{"outcome", kCommitted}}, static_cast<double>(arrivals_committed_));
  page.sample({{"outcome", kFailed}}, static_cast<double>(arrivals_failed_));
}

void NodeMetrics::add_registry(Page& page) const {
  page.gauge("lifeboat_registry_up", "1 when the registry answered this node's last request.", registry_up_ ? 1 : 0);
  page.family("lifeboat_registry_request_duration_seconds", Type::kHistogram,
              "Requests to the registry, until they were answered or given up.");
  for (const auto& [call, of] : registry_) page.sample({{"operation", to_string(call)}}, of.seconds);
  page.family("lifeboat_registry_errors_total", Type::kCounter, "Requests to which the registry gave no answer.");
  for (const auto& [call, of] : registry_) {
    page.sample({{"operation", to_string(call)}}, static_cast<double>(of.errors));
  }
}

void NodeMetrics::add_to(Page& page) const {
  page.gauge("process_start_time_seconds", "When this daemon started, in seconds since 1970.",
             std::chrono::duration<double>(started_at_.time_since_epoch()).count());
  add_migrations(page);
  add_registry(page);
  page.counter("lifeboat_pagers_died_total", "Pagers that ended while pages of their container may have been missing.",
               static_cast<double>(pagers_died_));
  page.counter("lifeboat_containers_lost_total",
               "Containers that ended here though they should not have: given up, or without their memory.",
               static_cast<double>(containers_lost_));
  page.family("lifeboat_leftovers_removed_total", Type::kCounter,
              "What was found left behind on this node and removed, by kind.");
  for (std::size_t i = 0; i < kLeftovers; ++i) {
    page.sample({{"kind", to_string(static_cast<Leftover>(i))}}, static_cast<double>(leftovers_.at(i)));
  }
}

}  // namespace lifeboat
