// owners.hpp - the ownership records and the nodes' presence, as they lie in a registry.
//
// Every call ends within the registry's timeout. Errors: as registry.hpp says; kConflict with the reason
// where a record does not allow what is asked.
#pragma once

#include "registry/decision.hpp"
#include "registry/registry.hpp"

namespace lifeboat {

// A record, and the version it is to be swapped from.
struct OwnerRecord {
  Ownership ownership;
  std::uint64_t version = kAbsent;
};

class Owners {
 public:
  Owners(Registry& registry, Milliseconds timeout) : registry_(registry), timeout_(timeout) {}

  awaitable<Result<std::optional<OwnerRecord>>> find(std::string container);
  // Those of containers that belong to it, or did when they ended.
  awaitable<Result<std::vector<OwnerRecord>>> of_node(std::string node);

  awaitable<Result<OwnerRecord>> claim(std::string container, std::string job, std::string node);
  awaitable<Result<OwnerRecord>> offer(OwnerRecord now, OwnedMigration migration);
  // The two that decide: one swap from this version each.
  awaitable<decision::Written> commit(OwnerRecord now, std::string migration);
  awaitable<decision::Written> abort(OwnerRecord now, std::string migration);
  // The source has lost its copy.
  awaitable<decision::Written> yield(OwnerRecord now, std::string migration);
  // The container has ended on this node. Nothing to do when it belongs to another.
  awaitable<Status> end(std::string container, std::string node);
  // The container is given up, wherever it was: a node that comes back with it ends it.
  awaitable<Status> end_anywhere(std::string container);
  // Of one that ended long ago.
  awaitable<Status> forget(OwnerRecord record);

  // Whether the node keeps its lease.
  awaitable<Result<bool>> node_alive(std::string node);
  [[nodiscard]] Registry& registry() { return registry_; }

 private:
  awaitable<Result<Swap>> put(const Ownership& next, std::uint64_t version);
  awaitable<Status> put_end(OwnerRecord now);

  Registry& registry_;
  Milliseconds timeout_;
};

[[nodiscard]] std::string presence_key(const std::string& node);

// What travels with the right to commit.
[[nodiscard]] json::object to_json(const OwnerRecord& record);
Result<OwnerRecord> owner_record_from(const json::object& object);

}  // namespace lifeboat
