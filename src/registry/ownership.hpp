// ownership.hpp - who a container belongs to: the record, and what may be done to it. Pure.
//
//   claim     nobody's (none, or ended)           ->  owner@epoch+1
//   offer     owner@e                             ->  owner@e, migration open to `target`
//   commit    owner@e, this migration open        ->  target@e+1, migration committed
//   abort     owner@e, this migration open        ->  owner@e, migration aborted
//   yield     owner@e, this migration open        ->  owner@e, migration open, source gone
//   end       owner@e                             ->  ended@e
//
// An owner that runs a container may offer or end it though its last migration is open still: it would
// not run if that migration could be committed, and the change of the record makes sure of it.
// Commit and abort start from the same version of the record, so the registry lets only one of them
// happen: that change is the point at which a container moves. The epoch counts owners over all the
// lives of a container's name, so what an earlier owner says can be told from what the present one
// does; ended records are kept for a week for that.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.hpp"

namespace lifeboat {

enum class MigrationState { kOpen, kCommitted, kAborted };
[[nodiscard]] const char* to_string(MigrationState state);

struct OwnedMigration {
  std::string id;
  std::string source;
  std::string target;
  MigrationState state = MigrationState::kOpen;
  bool needs_source = false;  // post-copy: the target can never do without it
  bool source_gone = false;  // the source has lost its copy: only the target can have the container
  bool operator==(const OwnedMigration&) const = default;
};

struct Ownership {
  std::string container;
  std::string job;
  std::string owner;  // a node; of an ended container the last
  std::uint64_t epoch = 0;
  bool ended = false;
  std::int64_t changed_ms = 0;  // since 1970, by the clock of whoever changed it; for people
  std::optional<OwnedMigration> migration;  // the last one
  bool operator==(const Ownership&) const = default;
};

[[nodiscard]] std::string to_text(const Ownership& record);
// What the text of each record that belongs to this node contains, and hardly any other.
[[nodiscard]] std::string ownership_text_of(const std::string& node);
// kProtocol: it is none.
Result<Ownership> ownership_from(std::string_view text);
// The key of a container's record.
[[nodiscard]] std::string ownership_key(const std::string& container);
inline constexpr const char* kOwnershipPrefix = "container/";

namespace ownership {

// kConflict, with the reason for people, when the record does not allow it.
Result<Ownership> claim(const std::optional<Ownership>& now, const std::string& container,
                        const std::string& job, const std::string& node);
Result<Ownership> offer(const Ownership& now, OwnedMigration migration);
Result<Ownership> commit(const Ownership& now, const std::string& migration);
Result<Ownership> abort(const Ownership& now, const std::string& migration);
Result<Ownership> yield(const Ownership& now, const std::string& migration);
Result<Ownership> end(const Ownership& now, const std::string& node);

}  // namespace ownership

// What the registry says of a migration, to the node that asks.
enum class Verdict {
  kOpen,
  kCommitted,  // the target's
  kAborted,    // not the target's
  kUnknown,    // there is no record
};
[[nodiscard]] const char* to_string(Verdict verdict);
// To the source, in doubt since it offered the container at `epoch`: it cannot have offered it again, so an
// owner of a later epoch has it by this migration; and one that was given up meanwhile it has not, either.
[[nodiscard]] Verdict judge_for_source(const std::optional<Ownership>& record, const std::string& migration,
                                       std::uint64_t epoch);
// To the target, which has not run it: what became of it by other migrations since says that this one was
// aborted.
[[nodiscard]] Verdict judge_for_target(const std::optional<Ownership>& record, const std::string& migration);

}  // namespace lifeboat
