// The ownership record: what may follow what, and what it says of a migration.
#include "registry/ownership.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

Ownership claimed() {
  return ownership::claim(std::nullopt, "hpl-0", "hpl", "n1").value();
}
Ownership offered() {
  return ownership::offer(claimed(), {"n1-a", "n1", "n2"}).value();
}

TEST(Ownership, MovesWithTheCommitAndCountsItsOwners) {
  const Ownership first = claimed();
  EXPECT_EQ(first.owner, "n1");
  EXPECT_EQ(first.epoch, 1U);
  const Ownership moved = ownership::commit(offered(), "n1-a").value();
  EXPECT_EQ(moved.owner, "n2");
  EXPECT_EQ(moved.epoch, 2U);
  EXPECT_EQ(moved.migration->state, MigrationState::kCommitted);
  const Ownership stayed = ownership::abort(offered(), "n1-a").value();
  EXPECT_EQ(stayed.owner, "n1");
  EXPECT_EQ(stayed.epoch, 1U);
}

TEST(Ownership, ADecisionIsFinal) {
  const Ownership moved = ownership::commit(offered(), "n1-a").value();
  const Ownership stayed = ownership::abort(offered(), "n1-a").value();
  EXPECT_FALSE(ownership::abort(moved, "n1-a"));
  EXPECT_FALSE(ownership::commit(stayed, "n1-a"));
  EXPECT_FALSE(ownership::commit(moved, "n1-a"));
  auto other = ownership::commit(offered(), "n1-b");
  ASSERT_FALSE(other);
  EXPECT_EQ(
      other.error().message,
      "migration n1-b cannot be committed: container hpl-0 belongs to n1, its last migration n1-a is open");
}

TEST(Ownership, OnlyTheOwnerOffersAndEnds) {
  EXPECT_FALSE(ownership::offer(claimed(), {"n3-a", "n3", "n2"}));
  EXPECT_FALSE(ownership::end(claimed(), "n2"));
  const Ownership ended = ownership::end(offered(), "n1").value();
  EXPECT_TRUE(ended.ended);
  EXPECT_EQ(ended.migration->state, MigrationState::kAborted) << "nobody can commit it any more";
  EXPECT_FALSE(ownership::offer(ended, {"n1-b", "n1", "n2"}));
}

TEST(Ownership, ANameIsClaimedAgainAfterItsEndOnly) {
  auto twice = ownership::claim(claimed(), "hpl-0", "hpl", "n3");
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().message, "container hpl-0 belongs to node n1 by the registry; see: lifeboat ps");
  const Ownership again =
      ownership::claim(ownership::end(claimed(), "n1").value(), "hpl-0", "hpl", "n3").value();
  EXPECT_EQ(again.owner, "n3");
  EXPECT_EQ(again.epoch, 2U);
  EXPECT_FALSE(again.ended);
  EXPECT_FALSE(again.migration);
}

TEST(Ownership, JudgesAMigrationByTheRecord) {
  const Ownership moved = ownership::commit(offered(), "n1-a").value();
  const Ownership kept = ownership::abort(offered(), "n1-a").value();
  const Ownership again = ownership::offer(kept, {"n1-b", "n1", "n3"}).value();
  const Ownership elsewhere = ownership::commit(again, "n1-b").value();
  const Ownership further = ownership::offer(moved, {"n2-a", "n2", "n3"}).value();
  struct Case {
    const char* what;
    std::optional<Ownership> record;
    Verdict source, target;
  };
  const Case cases[] = {
      {"no record", std::nullopt, Verdict::kUnknown, Verdict::kUnknown},
      {"open", offered(), Verdict::kOpen, Verdict::kOpen},
      {"committed", moved, Verdict::kCommitted, Verdict::kCommitted},
      {"aborted", kept, Verdict::kAborted, Verdict::kAborted},
      {"offered to another since", again, Verdict::kAborted, Verdict::kAborted},
      // A target that was cut off for long must not take this for its own migration's commit.
      {"moved to another since", elsewhere, Verdict::kCommitted, Verdict::kAborted},
      {"moved on by the target", further, Verdict::kCommitted, Verdict::kAborted},
      // Given up: nobody is to run it any more.
      {"ended at the target", ownership::end(moved, "n2").value(), Verdict::kCommitted, Verdict::kAborted},
      {"ended while open", ownership::end(offered(), "n1").value(), Verdict::kCommitted, Verdict::kAborted},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(judge_for_source(one.record, "n1-a", 1), one.source) << one.what;
    EXPECT_EQ(judge_for_target(one.record, "n1-a"), one.target) << one.what;
  }
}

TEST(Ownership, TextAndBack) {
  for (const Ownership& record : {claimed(), offered(), ownership::end(claimed(), "n1").value()}) {
    EXPECT_EQ(ownership_from(to_text(record)).value(), record);
  }
  for (const char* bad :
       {"", "{}", "[]", R"({"container":"c","job":"j","owner":"n","epoch":-1,"changed_ms":0})",
        R"({"container":"c","job":"j","owner":"n","epoch":1,"changed_ms":0,"migration":7})",
        // Its next owner would have an epoch of 0; its time would come back as another.
        R"({"container":"c","job":"j","owner":"n","epoch":18446744073709551615,"changed_ms":0})",
        R"({"container":"c","job":"j","owner":"n","epoch":1,"changed_ms":9223372036854775808})"}) {
    EXPECT_FALSE(ownership_from(bad)) << bad;
  }
}

}  // namespace
}  // namespace lifeboat
