#include "registry/ownership.hpp"

namespace lifeboat {

namespace {

constexpr MigrationState kMigrationStates[] = {MigrationState::kOpen, MigrationState::kCommitted,
                                               MigrationState::kAborted};

Result<OwnedMigration> migration_from(const json::object& object) {
  OwnedMigration migration;
  TRY(migration.id, get_string(object, "id"));
  TRY(migration.source, get_string(object, "source"));
  TRY(migration.target, get_string(object, "target"));
  TRY(const std::string state, get_string(object, "state"));
  migration.needs_source = flag(object, "needs_source");
  migration.source_gone = flag(object, "source_gone");
  for (const MigrationState known : kMigrationStates) {
    if (state != to_string(known)) continue;
    migration.state = known;
    return migration;
  }
  return fail(Errc::kProtocol, "unknown state of a migration '" + state + "'");
}

Status check_open(const Ownership& now, const std::string& migration, const char* what) {
  if (!now.ended && now.migration && now.migration->id == migration &&
      now.migration->state == MigrationState::kOpen) {
    return {};
  }
  std::string is =
      "container " + now.container + (now.ended ? " has ended on " : " belongs to ") + now.owner;
  if (now.migration)
    is += ", its last migration " + now.migration->id + " is " + to_string(now.migration->state);
  return fail(Errc::kConflict, std::string("migration ") + migration + " cannot be " + what + ": " + is);
}

}  // namespace

const char* to_string(MigrationState state) {
  switch (state) {
    case MigrationState::kOpen:
      return "open";
    case MigrationState::kCommitted:
      return "committed";
    case MigrationState::kAborted:
      return "aborted";
  }
  return "unknown";
}

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOpen:
      return "open";
    case Verdict::kCommitted:
      return "committed";
    case Verdict::kAborted:
      return "aborted";
    case Verdict::kUnknown:
      return "unknown";
  }
  return "unknown";
}

std::string ownership_text_of(const std::string& node) {
  return "\"owner\":" + json::serialize(json::value(node));
}

std::string to_text(const Ownership& record) {
  json::object object{{"container", record.container}, {"job", record.job},
                      {"owner", record.owner},         {"epoch", record.epoch},
                      {"ended", record.ended},         {"changed_ms", record.changed_ms}};
  if (record.migration) {
    object["migration"] = json::object{{"id", record.migration->id},
                                       {"source", record.migration->source},
                                       {"target", record.migration->target},
                                       {"state", to_string(record.migration->state)},
                                       {"needs_source", record.migration->needs_source},
                                       {"source_gone", record.migration->source_gone}};
  }
  return json::serialize(object);
}

Result<Ownership> ownership_from(std::string_view text) {
  TRY(const json::object object, parse_object(text));
  Ownership record;
  TRY(record.container, get_string(object, "container"));
  TRY(record.job, get_string(object, "job"));
  TRY(record.owner, get_string(object, "owner"));
  TRY(record.epoch, get_u64(object, "epoch"));
  TRY(const std::uint64_t changed, get_u64(object, "changed_ms"));
  constexpr std::uint64_t kMax = 1ULL << 62;  // there is always a next epoch
  if (record.epoch > kMax || changed > kMax) {
    return fail(Errc::kProtocol,
                "a record of container " + record.container.substr(0, 64) + " with impossible numbers");
  }
  record.changed_ms = static_cast<std::int64_t>(changed);
  record.ended = flag(object, "ended");
  if (object.contains("migration")) {
    TRY(const json::object* migration, get_object(object, "migration"));
    TRY(record.migration, migration_from(*migration));
  }
  return record;
}

std::string ownership_key(const std::string& container) {
  return kOwnershipPrefix + container;
}

namespace ownership {

Result<Ownership> claim(const std::optional<Ownership>& now, const std::string& container,
                        const std::string& job, const std::string& node) {
  if (now && !now->ended) {
    return fail(Errc::kConflict, "container " + container + " belongs to node " + now->owner +
                                     " by the registry; see: lifeboat ps");
  }
  Ownership next;
  next.container = container;
  next.job = job;
  next.owner = node;
  next.epoch = now ? now->epoch + 1 : 1;
  return next;
}

Result<Ownership> offer(const Ownership& now, OwnedMigration migration) {
  if (now.ended || now.owner != migration.source) {
    return fail(Errc::kConflict, "container " + now.container +
                                     (now.ended ? " has ended on node " : " belongs to node ") + now.owner +
                                     " by the registry");
  }
  Ownership next = now;
  next.migration = std::move(migration);
  return next;
}

Result<Ownership> commit(const Ownership& now, const std::string& migration) {
  CHECK_OK(check_open(now, migration, "committed"));
  Ownership next = now;
  next.owner = next.migration->target;
  ++next.epoch;
  next.migration->state = MigrationState::kCommitted;
  return next;
}

Result<Ownership> abort(const Ownership& now, const std::string& migration) {
  CHECK_OK(check_open(now, migration, "aborted"));
  Ownership next = now;
  next.migration->state = MigrationState::kAborted;
  return next;
}

Result<Ownership> yield(const Ownership& now, const std::string& migration) {
  CHECK_OK(check_open(now, migration, "left to its target"));
  Ownership next = now;
  next.migration->source_gone = true;
  return next;
}

Result<Ownership> end(const Ownership& now, const std::string& node) {
  if (now.owner != node) {
    return fail(Errc::kConflict,
                "container " + now.container + " belongs to node " + now.owner + " by the registry");
  }
  Ownership next = now;
  next.ended = true;
  if (next.migration && next.migration->state == MigrationState::kOpen) {
    next.migration->state = MigrationState::kAborted;
  }
  return next;
}

}  // namespace ownership

namespace {

Verdict verdict_of(MigrationState state) {
  switch (state) {
    case MigrationState::kOpen:
      return Verdict::kOpen;
    case MigrationState::kCommitted:
      return Verdict::kCommitted;
    case MigrationState::kAborted:
      return Verdict::kAborted;
  }
  return Verdict::kUnknown;
}

}  // namespace

Verdict judge_for_source(const std::optional<Ownership>& record, const std::string& migration,
                         std::uint64_t epoch) {
  if (!record) return Verdict::kUnknown;
  if (record->ended || record->epoch > epoch) return Verdict::kCommitted;
  if (record->migration && record->migration->id == migration) return verdict_of(record->migration->state);
  return Verdict::kAborted;
}

Verdict judge_for_target(const std::optional<Ownership>& record, const std::string& migration) {
  if (!record) return Verdict::kUnknown;
  if (record->ended || !record->migration || record->migration->id != migration) return Verdict::kAborted;
  return verdict_of(record->migration->state);
}

}  // namespace lifeboat
