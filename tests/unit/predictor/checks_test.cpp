#include "predictor/sources/checks.hpp"

#include <signal.h>

#include "unit/predictor/tree.hpp"

namespace lifeboat::predictor {
namespace {

const std::string kDirectory = "/etc/lifeboat/checks.d";

class Checks : public ::testing::Test {
 protected:
  ChecksSource source() { return {tree.place(), options}; }
  // Until all checks have been run once.
  std::vector<Event> round(ChecksSource& checks, std::string* error = nullptr) {
    std::vector<Event> all;
    for (int i = 0; i < 4000; ++i) {
      const auto events = checks.poll(kNow);
      if (events) all.insert(all.end(), events->begin(), events->end());
      if (!events && error != nullptr) *error = events.error().message;
      if (checks.interval() == Duration(options.interval)) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return all;
  }
  Tree tree;
  ChecksOptions options;
};

TEST_F(Checks, TellsWhatFailsAtEveryRunAndOnceThatItIsFineAgain) {
  tree.script(kDirectory + "/10-fine", "exit 0");
  tree.script(kDirectory + "/20-mount", "echo checking; echo 'ERROR:  nhc:  /scratch not mounted'; exit 1");
  tree.script(kDirectory + "/30-dead", "echo 'fabric is gone' >&2; exit 2");
  options.commands = {"echo ERROR: says so; true"};
  ChecksSource checks = source();
  for (int run = 0; run < 2; ++run) {
    const auto events = round(checks);
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(events[0].text, "20-mount: ERROR:  nhc:  /scratch not mounted");
    EXPECT_EQ(events[0].severity, Severity::kError);
    EXPECT_EQ(events[0].kind, EventKind::kCheck);
    EXPECT_EQ(events[1].text, "30-dead: fabric is gone");
    EXPECT_EQ(events[1].severity, Severity::kCritical);
    EXPECT_EQ(detail(events[1], "verdict"), "down");
    EXPECT_EQ(detail(events[2], "verdict"), "degraded");
  }
  tree.script(kDirectory + "/20-mount", "exit 0");
  ChecksSource after = source();  // knows from what was saved that it had failed
  after.restore(checks.save());
  const auto events = round(after);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].text, "20-mount: fine");
  EXPECT_EQ(events[0].severity, Severity::kInfo);
  EXPECT_EQ(round(after).size(), 2u);
}

TEST_F(Checks, EndsOneThatHangsWithItsChildrenAndGoesOn) {
  tree.script(kDirectory + "/10-hangs", "sleep 1000 & echo $! > " + tree.path("/child") + "; wait");
  tree.script(kDirectory + "/20-fails", "exit 1");
  options.limit = std::chrono::milliseconds(3000);
  ChecksSource checks = source();
  std::string error;
  const auto events = round(checks, &error);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].text, "20-fails: failed");
  EXPECT_NE(error.find("check 10-hangs: "), std::string::npos) << error;
  EXPECT_NE(error.find("was ended after 3000 ms"), std::string::npos) << error;
  const auto child = whole_number(read_value(tree.path("/child")));
  ASSERT_TRUE(child);
  const std::string stat = read_value("/proc/" + std::to_string(*child) + "/stat");
  EXPECT_TRUE(stat.empty() || stat.find(") Z") != std::string::npos) << stat;
}

TEST_F(Checks, ConcludesNothingFromABrokenOne) {
  const std::vector<std::pair<std::string, std::string>> broken{
      {"exit 3", "ended with 3"}, {"kill -9 $$", "ended with 137"}, {"no-such-program", "ended with 127"}};
  for (const auto& [body, expected] : broken) {
    tree.script(kDirectory + "/broken", body);
    ChecksSource checks = source();
    std::string error;
    EXPECT_TRUE(round(checks, &error).empty());
    EXPECT_NE(error.find(expected), std::string::npos) << error;
  }
}

TEST_F(Checks, BoundsWhatACheckSays) {
  tree.script(kDirectory + "/loud", "head -c 3000000 /dev/urandom; exit 1");
  ChecksSource checks = source();
  const auto events = round(checks);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_LE(events[0].text.size(), kTextMax);
  EXPECT_TRUE(parse_replay_line(to_replay_line(events[0])));
}

TEST_F(Checks, DoesNotRunWhatOthersMayChange) {
  tree.script(kDirectory + "/open", "exit 2");
  ::chmod(tree.path(kDirectory + "/open").c_str(), 0777);
  tree.write(kDirectory + "/README", "not executable");
  ChecksSource checks = source();
  const auto events = checks.poll(kNow);
  ASSERT_FALSE(events);
  EXPECT_NE(error_of(events).find("is not run"), std::string::npos);
}

TEST_F(Checks, AreMissingWhenThereAreNone) {
  ChecksSource checks = source();
  EXPECT_EQ(checks.poll(kNow).error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace lifeboat::predictor
