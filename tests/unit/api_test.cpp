// Which request means which method, with which parameters.
#include "api_routes.hpp"

#include <gtest/gtest.h>

namespace lifeboat {
namespace {

std::string matched(http::verb verb, std::string_view target) {
  json::object params;
  const std::string method = match_route(verb, target, params);
  return method + (params.empty() ? "" : " " + json::serialize(params));
}

TEST(MatchRoute, EveryRoute) {
  using enum http::verb;
  EXPECT_EQ(matched(get, "/v1/status"), "status");
  EXPECT_EQ(matched(get, "/v1/metrics"), "metrics");
  EXPECT_EQ(matched(get, "/v1/events?since=7&all=1"), R"(events {"since":7,"all":1})");
  EXPECT_EQ(matched(get, "/v1/view"), "view");
  EXPECT_EQ(matched(get, "/v1/nodes"), "nodes");
  EXPECT_EQ(matched(get, "/v1/nodes/n1"), R"(node.get {"node":"n1"})");
  EXPECT_EQ(matched(get, "/v1/nodes/n1/plan"), R"(node.plan {"node":"n1"})");
  EXPECT_EQ(matched(post, "/v1/nodes/n1/degrade"), R"(node.degrade {"node":"n1"})");
  EXPECT_EQ(matched(post, "/v1/nodes/n1/restore"), R"(node.restore {"node":"n1"})");
  EXPECT_EQ(matched(post, "/v1/nodes/n1/evacuate"), R"(node.evacuate {"node":"n1"})");
  EXPECT_EQ(matched(get, "/v1/containers"), "containers");
  EXPECT_EQ(matched(get, "/v1/containers/a-0/logs"), R"(container.logs {"id":"a-0"})");
  EXPECT_EQ(matched(post, "/v1/containers/a-0/kill"), R"(container.kill {"id":"a-0"})");
  EXPECT_EQ(matched(post, "/v1/containers/a-0/migrate"), R"(migrate {"container":"a-0"})");
  EXPECT_EQ(matched(get, "/v1/migrations"), "migration.list");
  EXPECT_EQ(matched(get, "/v1/migrations/n1-x"), R"(migration.get {"id":"n1-x"})");
  EXPECT_EQ(matched(get, "/v1/jobs"), "job.list");
  EXPECT_EQ(matched(post, "/v1/jobs"), "job.run");
  EXPECT_EQ(matched(get, "/v1/jobs/a"), R"(job.get {"name":"a"})");
  EXPECT_EQ(matched(get, "/v1/jobs/a/logs"), R"(job.logs {"name":"a"})");
  EXPECT_EQ(matched(post, "/v1/jobs/a/kill"), R"(job.kill {"name":"a"})");
}

TEST(MatchRoute, ThePathSaysWhatIsMeant) {
  json::object params{{"container", "of-the-body"}};
  EXPECT_EQ(match_route(http::verb::post, "/v1/containers/a-0/migrate?container=b-0&to=n2", params), "migrate");
  EXPECT_EQ(json::serialize(params), R"({"container":"a-0","to":"n2"})");
}

TEST(MatchRoute, NothingElse) {
  using enum http::verb;
  for (const char* target : {"", "/", "/v1", "/v1/", "/v1/nope", "/v2/status", "/v1/status/x",
                             "/v1/jobs//logs", "/v1/jobs/a/b", "/v1/jobs/a/logs/b", "*",
                             "http://lifeboat/v1/status", "/v1/containers//migrate", "v1/status", "/v1/jobs/a\xdf",
                             "/v1/jobs/a?x=\xdf", "/v1/jobs/a\n"}) {
    EXPECT_EQ(matched(get, target), "") << target;
    EXPECT_EQ(matched(post, target), "") << target;
  }
  EXPECT_EQ(matched(post, "/v1/status"), "");
  EXPECT_EQ(matched(get, "/v1/containers/a-0/migrate"), "");
  EXPECT_EQ(matched(delete_, "/v1/jobs/a"), "");
}

TEST(MatchRoute, Query) {
  using enum http::verb;
  EXPECT_EQ(matched(get, "/v1/jobs/a/logs?offset=12"), R"(job.logs {"offset":12,"name":"a"})");
  EXPECT_EQ(matched(get, "/v1/jobs/a/logs?x=1y&e=&=v&novalue&offset=18446744073709551616"),
            R"(job.logs {"x":"1y","e":"","":"v","offset":"18446744073709551616","name":"a"})");
  EXPECT_EQ(matched(get, "/v1/status?"), "status");
}

// A partial match of one route must leave no parameter in the answer of another.
TEST(MatchRoute, ParametersOfOtherRoutesDoNotLeak) {
  json::object params{{"to", "n2"}};
  EXPECT_EQ(match_route(http::verb::post, "/v1/containers/a-0/migrate", params), "migrate");
  EXPECT_EQ(json::serialize(params), R"({"to":"n2","container":"a-0"})");
}

}  // namespace
}  // namespace lifeboat
