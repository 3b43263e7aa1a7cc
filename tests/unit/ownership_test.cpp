// The ownership record: what may follow what, and what it says of a migration.
#include "registry/ownership.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

Ownership claimed() {
  return ownership::claim(std::nullopt, "hpl-0", "hpl", "n1").value();
}
Ownership offered() {
  return ownership::offer(claimed(), "n1-a", "n1", "n2").value();
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
  EXPECT_FALSE(ownership::offer(claimed(), "n3-a", "n3", "n2"));
  EXPECT_FALSE(ownership::end(claimed(), "n2"));
  const Ownership ended = ownership::end(offered(), "n1").value();
  EXPECT_TRUE(ended.ended);
  EXPECT_EQ(ended.migration->state, MigrationState::kAborted) << "nobody can commit it any more";
  EXPECT_FALSE(ownership::offer(ended, "n1-b", "n1", "n2"));
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
  EXPECT_EQ(judge(std::nullopt, "n1-a", 1), Verdict::kUnknown);
  EXPECT_EQ(judge(offered(), "n1-a", 1), Verdict::kOpen);
  const Ownership moved = ownership::commit(offered(), "n1-a").value();
  EXPECT_EQ(judge(moved, "n1-a", 1), Verdict::kCommitted);
  EXPECT_EQ(judge(ownership::abort(offered(), "n1-a").value(), "n1-a", 1), Verdict::kAborted);
  // The same owner has offered it again since: the first was aborted.
  EXPECT_EQ(judge(ownership::offer(offered(), "n1-b", "n1", "n3").value(), "n1-a", 1), Verdict::kAborted);
  // Its new owner has moved it on: the first was committed.
  EXPECT_EQ(judge(ownership::offer(moved, "n2-a", "n2", "n3").value(), "n1-a", 1), Verdict::kCommitted);
  EXPECT_EQ(judge(ownership::end(moved, "n2").value(), "n1-a", 1), Verdict::kCommitted);
}

TEST(Ownership, TextAndBack) {
  for (const Ownership& record : {claimed(), offered(), ownership::end(claimed(), "n1").value()}) {
    EXPECT_EQ(ownership_from(to_text(record)).value(), record);
  }
  for (const char* bad :
       {"", "{}", "[]", R"({"container":"c","job":"j","owner":"n","epoch":-1,"changed_ms":0})",
        R"({"container":"c","job":"j","owner":"n","epoch":1,"changed_ms":0,"migration":7})"}) {
    EXPECT_FALSE(ownership_from(bad)) << bad;
  }
}

}  // namespace
}  // namespace lifeboat
