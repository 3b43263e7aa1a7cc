// Ownership records, as a registry and a source with its right to commit give them: what is taken comes
// back as it was, and whatever a record says, a migration has one end.
#include "registry/owners.hpp"

#include "fuzz.hpp"

namespace {

using namespace lifeboat;

void require_back(const Ownership& record) {
  const auto again = ownership_from(to_text(record));
  fuzz::require_good(again);
  fuzz::require(again && *again == record, "a record comes back from its own text as it was");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto record = ownership_from(fuzz::text(data, size));
  fuzz::require_good(record);
  if (const auto object = parse_object(fuzz::text(data, size))) {
    const auto right = owner_record_from(*object);
    fuzz::require_good(right);
    if (right) {
      const auto again = owner_record_from(to_json(*right));
      fuzz::require(again && again->ownership == right->ownership && again->version == right->version,
                    "a right to commit comes back as it was");
    }
  }
  if (!record) return 0;
  require_back(*record);
  const std::string id = record->migration ? record->migration->id : "n1-a";
  const auto committed = ownership::commit(*record, id);
  const auto aborted = ownership::abort(*record, id);
  fuzz::require_good(committed);
  fuzz::require_good(aborted);
  fuzz::require(committed.has_value() == aborted.has_value(), "what can be committed can be aborted");
  if (!committed) return 0;
  fuzz::require(committed->epoch > record->epoch, "epochs grow");
  fuzz::require(judge_for_target(*committed, id) == Verdict::kCommitted &&
                    judge_for_source(*committed, id, record->epoch) == Verdict::kCommitted,
                "both ends hear of a commit");
  fuzz::require(judge_for_target(*aborted, id) == Verdict::kAborted &&
                    judge_for_source(*aborted, id, record->epoch) == Verdict::kAborted,
                "both ends hear of an abort");
  require_back(*committed);
  require_back(*aborted);
  return 0;
}
