// What nodes may ask of each other, by role: the whole table.
#include "peer_rights.hpp"

#include <gtest/gtest.h>

#include "registry/owners.hpp"
#include "registry/ownership.hpp"

#include <map>
#include <vector>

namespace lifeboat {
namespace {

Asking compute() { return {"n1", NodeRole::kCompute, false, false}; }
Asking head() { return {"head", NodeRole::kHead, true, false}; }
Asking listener() { return {"n1", NodeRole::kCompute, true, false}; }
Asking party() { return {"n1", NodeRole::kCompute, false, true}; }

TEST(PeerRights, Table) {
  // Allowed to: compute, head, listener, party.
  const std::map<std::string, std::vector<bool>> expected{
      {"node.info", {true, true, true, true}},
      {"node.state", {true, true, true, true}},
      {"node.down", {true, true, true, true}},
      {"node.fill", {true, true, true, true}},
      {"node.get", {true, true, true, true}},
      {"migration.get", {true, true, true, true}},
      {"job.list", {true, true, true, true}},
      {"job.get", {true, true, true, true}},
      {"node.back", {false, true, true, false}},
      {"node.degrade", {false, true, false, false}},
      {"node.restore", {false, true, false, false}},
      {"node.evacuate", {false, true, false, false}},
      {"node.plan", {false, true, false, false}},
      {"container.create", {false, true, false, false}},
      {"container.logs", {false, true, false, false}},
      {"registry.get", {true, true, true, true}},
      {"registry.page", {true, true, true, true}},
      {"registry.swap", {true, true, true, true}},
      {"registry.grant", {true, true, true, true}},
      {"registry.keep_alive", {true, true, true, true}},
      {"registry.revoke", {true, true, true, true}},
      {"migration.decide", {false, true, false, true}},
      {"migration.end", {false, true, false, true}},
      {"migrate", {false, true, false, true}},
      {"job.run", {false, true, false, true}},
      {"job.logs", {false, true, false, true}},
      {"job.kill", {false, true, false, true}},
      {"container.remove", {false, true, false, true}},
      {"migration.cancel", {false, true, false, true}},
      {"migration.outcome", {false, false, false, true}},
      // For operators of the node itself only, or nothing at all.
      {"status", {false, false, false, false}},
      {"nodes", {false, false, false, false}},
      {"containers", {false, false, false, false}},
      {"container.kill", {false, false, false, false}},
      {"migration.list", {true, true, true, true}},
      {"migration.plan", {false, false, false, false}},
      {"", {false, false, false, false}},
      {"node.infos", {false, false, false, false}},
      {std::string("node.info\0", 10), {false, false, false, false}}};
  const Asking peers[] = {compute(), head(), listener(), party()};
  for (const auto& [method, allowed] : expected) {
    for (std::size_t i = 0; i < std::size(peers); ++i) {
      EXPECT_EQ(check_right(method, peers[i]).has_value(), allowed[i]) << method << " by " << i;
    }
  }
}

TEST(PeerRights, RefusalsNameMethodAndRole) {
  EXPECT_EQ(check_right("job.run", compute()).error().message,
            "'job.run' is not for node n1 (compute) to ask of another node; use the command on a head node");
  EXPECT_EQ(check_right("nodes", head()).error().message,
            "'nodes' is not for node head (head) to ask of another node");
  EXPECT_EQ(check_right("job.run", compute()).error().code, Errc::kRefused);
}

TEST(PeerRights, OffersAndPagesAreTheSourcesOwn) {
  EXPECT_TRUE(check_offer(compute(), "n1", "n1-abc"));
  EXPECT_FALSE(check_offer(compute(), "n2", "n1-abc"));
  EXPECT_FALSE(check_offer(compute(), "n1", "n2-abc"));
  EXPECT_FALSE(check_offer(compute(), "n1", ""));
  EXPECT_FALSE(check_offer(head(), "head", "head-abc"));
  EXPECT_TRUE(check_pages(compute(), "n1-abc"));
  EXPECT_FALSE(check_pages(compute(), "n2-abc"));
  EXPECT_EQ(check_offer(compute(), "n2", "n2-abc").error().message,
            "node n1 (compute) offers a container of node 'n2' by migration 'n2-abc'; compute nodes offer "
            "what is theirs, others nothing");
  EXPECT_EQ(check_pages(compute(), "n2-abc").error().message,
            "node n1 (compute) sends pages of migration 'n2-abc', which is not its own");
}

TEST(PeerRights, TheNodeIsWhatStandsBeforeTheLastDash) {
  EXPECT_TRUE(is_migration_of("rack-1-n2-x7", "rack-1-n2"));
  EXPECT_FALSE(is_migration_of("rack-1-n2-x7", "rack-1"));
  EXPECT_FALSE(is_migration_of("n1", "n1"));
  EXPECT_FALSE(is_migration_of("", ""));
  // It names files.
  EXPECT_FALSE(is_migration_of("n1-", "n1"));
  EXPECT_FALSE(is_migration_of("n1-/../../x", "n1"));
  EXPECT_FALSE(is_migration_of("n1-" + std::string(32, 'a'), "n1"));
}

// A container's record and what becomes of it, as JSON.
std::optional<std::string> record(const std::string& owner, bool ended = false, const std::string& target = "") {
  Ownership made{"hpl-0", "hpl", owner, 3, ended, 0, std::nullopt};
  if (!target.empty()) made.migration = OwnedMigration{owner + "-a", owner, target};
  return to_text(made);
}

TEST(PeerRights, TheRegistryIsChangedByWhomItConcerns) {
  const Asking n1{"n1", NodeRole::kCompute};
  const Asking n2{"n2", NodeRole::kCompute};
  const Asking n3{"n3", NodeRole::kCompute};
  const auto key = ownership_key("hpl-0");
  const auto may = [&](const Asking& peer, const auto& now, const auto& next) {
    return check_swap(peer, key, now, next).has_value();
  };
  const std::optional<std::string> none;
  EXPECT_TRUE(may(n1, none, record("n1"))) << "started here";
  EXPECT_FALSE(may(n2, none, record("n1")));
  EXPECT_TRUE(may(n1, record("n1"), record("n1", false, "n2"))) << "offered";
  EXPECT_FALSE(may(n2, record("n1"), record("n2"))) << "stolen";
  EXPECT_FALSE(may(n2, record("n1"), record("n1", true)));
  EXPECT_FALSE(may(n1, record("n1"), record("n2"))) << "foisted on another";
  const auto offered = record("n1", false, "n2");
  EXPECT_TRUE(may(n2, offered, record("n2"))) << "committed";
  EXPECT_TRUE(may(n2, offered, record("n1"))) << "renounced";
  EXPECT_TRUE(may(n1, offered, record("n1"))) << "aborted";
  EXPECT_FALSE(may(n3, offered, record("n3")));
  EXPECT_FALSE(may(n3, offered, record("n1")));
  EXPECT_FALSE(may(n2, offered, none));
  EXPECT_FALSE(may(n1, offered, none));
  EXPECT_TRUE(may(n1, record("n1", true), none)) << "forgotten";
  EXPECT_FALSE(may(n2, record("n1", true), none));
  EXPECT_TRUE(may(n2, record("n1", true), record("n2"))) << "another job of that name";
  EXPECT_FALSE(check_swap(n1, ownership_key("hpl-1"), none, record("n1"))) << "under another's key";
  EXPECT_TRUE(check_swap(n1, presence_key("n1"), none, "here"));
  EXPECT_FALSE(check_swap(n1, presence_key("n2"), none, "here"));
  EXPECT_FALSE(check_swap(n1, "other", none, "x"));
  EXPECT_FALSE(check_swap(n1, key, "garbage", record("n1")));
  EXPECT_TRUE(check_swap({"head", NodeRole::kHead}, key, record("n1"), record("n1", true)));
}

}  // namespace
}  // namespace lifeboat
