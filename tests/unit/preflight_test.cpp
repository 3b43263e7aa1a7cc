// Whether a process that ran there can run here.
#include "preflight.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

namespace lifeboat {
namespace {

NodeFacts facts() {
  NodeFacts out;
  out.kernel = "6.18.0";
  out.machine = "x86_64";
  out.cpu_flags = {"avx", "avx2", "sse2"};
  out.criu_version = 40201;
  return out;
}

std::string refused(const NodeFacts& source, const NodeFacts& target) {
  const auto status = check_compatible(source, target);
  EXPECT_FALSE(status.has_value());
  if (status) return {};
  EXPECT_EQ(status.error().code, Errc::kRefused);
  return status.error().message;
}

TEST(Preflight, TheSameOrBetterIsCompatible) {
  NodeFacts better = facts();
  better.cpu_flags = {"avx", "avx2", "avx512f", "sse2"};
  better.criu_version = 40300;
  better.kernel = "5.10.0";
  EXPECT_TRUE(check_compatible(facts(), facts()).has_value());
  EXPECT_TRUE(check_compatible(facts(), better).has_value());
  NodeFacts patch = facts();
  patch.criu_version = 40200;  // images do not change in a patch release
  EXPECT_TRUE(check_compatible(facts(), patch).has_value());
}

TEST(Preflight, SaysWhatIsMissing) {
  NodeFacts other = facts();
  other.criu_version = 0;
  other.criu_problem = "no CRIU";
  EXPECT_EQ(refused(facts(), other), "no CRIU");
  EXPECT_EQ(refused(other, facts()), "at the source: no CRIU");
  other = facts();
  other.criu_version = 40100;
  EXPECT_EQ(refused(facts(), other), "CRIU 4.1 here is older than CRIU 4.2.1 at the source");
  other = facts();
  other.machine = "aarch64";
  EXPECT_EQ(refused(facts(), other), "this node is aarch64, the source x86_64");
  other = facts();
  other.cpu_flags = {"avx"};
  EXPECT_EQ(refused(facts(), other), "this node's CPU lacks what the source's has: avx2 sse2");
  NodeFacts rich = facts();
  rich.cpu_flags = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
  other.cpu_flags = {};
  EXPECT_EQ(refused(rich, other),
            "this node's CPU lacks what the source's has: a b c d e f g h and 2 more");
}

TEST(Preflight, FactsRoundTrip) {
  NodeFacts sent = facts();
  sent.criu_problem = "none";
  const auto again = node_facts_from(to_json(sent));
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->kernel, sent.kernel);
  EXPECT_EQ(again->machine, sent.machine);
  EXPECT_EQ(again->cpu_flags, sent.cpu_flags);
  EXPECT_EQ(again->criu_version, sent.criu_version);
  EXPECT_EQ(again->criu_problem, "none");
}

TEST(Preflight, FactsOfAPeerAreNotTrusted) {
  json::object object = to_json(facts());
  object["cpu_flags"] = json::array{"sse2", 7, "avx", "avx2"};  // sorted here
  EXPECT_EQ(node_facts_from(object)->cpu_flags, facts().cpu_flags);
  object["cpu_flags"] = json::array(4097, "x");
  EXPECT_EQ(node_facts_from(object).error().message, "cpu_flags: too many");
  object = to_json(facts());
  object["criu_version"] = -1;
  EXPECT_EQ(node_facts_from(object).error().message,
            "member 'criu_version' is missing or not a whole number from 0 on");
  object.erase("machine");
  EXPECT_FALSE(node_facts_from(object).has_value());
}

TEST(Preflight, VersionText) {
  EXPECT_EQ(criu_version_text(31700), "3.17");
  EXPECT_EQ(criu_version_text(40201), "4.2.1");
}

TEST(Preflight, OwnUserAndMemory) {
  NodeFacts facts;
  EXPECT_TRUE(check_user(facts, 1000).has_value());
  facts.only_of_uid = 0;
  EXPECT_TRUE(check_user(facts, 0).has_value());
  EXPECT_NE(check_user(facts, 1000).error().message.find("processes of uid 1000"), std::string::npos);
  EXPECT_GT(memory_available_bytes(), 1u << 20);
}

}  // namespace
}  // namespace lifeboat
