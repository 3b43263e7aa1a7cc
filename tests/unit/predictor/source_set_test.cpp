#include "predictor/sources/source_set.hpp"

#include "predictor/sources/sources.hpp"
#include "unit/predictor/tree.hpp"

namespace lifeboat::predictor {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

// Answers what it was told to, and counts how often it was asked.
class Scripted final : public Source {
 public:
  Scripted(std::string name, Result<std::vector<Event>>& answer, int& asked)
      : name_(std::move(name)), answer_(answer), asked_(asked) {}
  [[nodiscard]] std::string name() const override { return name_; }
  Result<std::vector<Event>> poll(Time) override {
    ++asked_;
    return answer_;
  }
  [[nodiscard]] Duration interval() const override { return seconds(10); }
  [[nodiscard]] std::string save() const override { return saved; }
  void restore(const std::string& text) override { saved = text; }
  std::string saved = "at the start";

 private:
  std::string name_;
  Result<std::vector<Event>>& answer_;
  int& asked_;
};

Event memory_error(const std::string& source, std::uint64_t count, Time time = kNow) {
  Event event;
  event.time = time;
  event.node = "n1";
  event.source = source;
  event.kind = EventKind::kCorrectedMemory;
  event.location = "mc0/DIMM_A1";
  event.count = count;
  return event;
}

class Set : public ::testing::Test {
 protected:
  SourceSet make(std::initializer_list<std::string> names = {"a"}) {
    std::vector<std::unique_ptr<Source>> sources;
    for (const std::string& name : names) {
      sources.push_back(std::make_unique<Scripted>(name, answer, asked));
    }
    return SourceSet(std::move(sources));
  }
  Result<std::vector<Event>> answer = std::vector<Event>{};
  int asked = 0;
};

TEST_F(Set, AsksWhenDueWhicheverWayTheClockJumps) {
  SourceSet set = make();
  (void)set.poll(kNow);
  (void)set.poll(kNow + seconds(9));
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(set.until_due(kNow + seconds(9)), Duration(seconds(1)));
  (void)set.poll(kNow + seconds(10));
  EXPECT_EQ(asked, 2);
  (void)set.poll(kNow - std::chrono::years(1));
  EXPECT_EQ(asked, 3);
  (void)set.poll(kNow + std::chrono::years(1));
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(set.until_due(kNow + std::chrono::years(1)), Duration(seconds(10)));
}

TEST_F(Set, SaysOnceThatASourceIsMissingAndAsksItRarely) {
  answer = fail(Errc::kNotFound, "no such thing");
  SourceSet set = make();
  const auto first = set.poll(kNow);
  ASSERT_EQ(first.notices.size(), 1u);
  EXPECT_EQ(first.notices[0].what, Notice::What::kMissing);
  EXPECT_EQ(first.notices[0].text, "no such thing");
  EXPECT_TRUE(set.poll(kNow + minutes(9)).notices.empty());
  EXPECT_EQ(asked, 1);
  EXPECT_TRUE(set.poll(kNow + minutes(10)).notices.empty());
  EXPECT_EQ(asked, 2);
}

TEST_F(Set, SaysAProblemOnceUntilItWorksAgain) {
  SourceSet set = make();
  Time now = kNow;
  const auto notices = [&] { return set.poll(now += seconds(10)).notices; };
  answer = fail(Errc::kProtocol, "garbage");
  ASSERT_EQ(notices().size(), 1u);
  EXPECT_TRUE(notices().empty());
  answer = std::vector<Event>{};
  ASSERT_EQ(notices().at(0).what, Notice::What::kWorksAgain);
  // One that comes and goes does not fill the log.
  int said = 0;
  for (int i = 0; i < 100; ++i) {
    answer = i % 2 == 0 ? Result<std::vector<Event>>(fail(Errc::kProtocol, "garbage"))
                        : Result<std::vector<Event>>(std::vector<Event>{});
    said += static_cast<int>(notices().size());
  }
  EXPECT_EQ(said, 0);
  now += minutes(61);
  answer = fail(Errc::kProtocol, "garbage");
  EXPECT_EQ(notices().size(), 1u);
}

TEST_F(Set, MergesInTheOrderOfTimeAndCountsAnErrorOnce) {
  answer = std::vector<Event>{memory_error("x", 1, kNow + seconds(2)), memory_error("x", 1, kNow)};
  SourceSet set = make({"a", "b"});
  const auto polled = set.poll(kNow);
  ASSERT_EQ(polled.events.size(), 4u);  // one source said each twice: four errors
  EXPECT_TRUE(std::is_sorted(polled.events.begin(), polled.events.end(),
                             [](const Event& a, const Event& b) { return a.time < b.time; }));
}

TEST_F(Set, KeepsPositions) {
  SourceSet before = make({"a", "b"});
  const std::string saved = before.save();
  EXPECT_EQ(saved, R"({"a":"at the start","b":"at the start"})");
  SourceSet after = make({"b", "c"});
  EXPECT_TRUE(after.restore(R"({"a":"1","b":"2","c":3})"));
  EXPECT_EQ(after.save(), R"({"b":"2","c":"at the start"})");
  EXPECT_EQ(after.restore(garbage(1000)).error().code, Errc::kInvalid);
}

TEST(Repeats, CountsWhatRaisesTheHighestSum) {
  Repeats repeats;
  const auto counted = [&](const std::string& source, std::uint64_t count, Time time = kNow) {
    Event event = memory_error(source, count, time);
    return repeats.count_once(event) ? event.count : 0;
  };
  EXPECT_EQ(counted("kmsg", 1), 1u);
  EXPECT_EQ(counted("kmsg", 1), 1u);
  EXPECT_EQ(counted("rasdaemon", 1), 0u);
  EXPECT_EQ(counted("edac", 5), 3u);  // the log had missed three
  EXPECT_EQ(counted("kmsg", 3), 0u);
  EXPECT_EQ(counted("kmsg", 1), 1u);
  EXPECT_EQ(counted("edac", ~std::uint64_t{0}), 0u);
  // Later it begins anew, so that nobody stays behind for ever.
  EXPECT_EQ(counted("rasdaemon", 1, kNow + minutes(3)), 1u);
  EXPECT_EQ(counted("kmsg", 1, kNow + minutes(3)), 0u);
}

TEST(Repeats, TellsThingsApart) {
  Repeats repeats;
  Event first = memory_error("kmsg", 1);
  EXPECT_TRUE(repeats.count_once(first));
  Event other = memory_error("edac", 1);
  other.location = "mc0/DIMM_B1";
  EXPECT_TRUE(repeats.count_once(other));
  Event worse = memory_error("edac", 1);
  worse.kind = EventKind::kUncorrectedMemory;
  EXPECT_TRUE(repeats.count_once(worse));
  for (int i = 0; i < 3; ++i) {
    Event message = memory_error("journal", 1);
    message.kind = EventKind::kMessage;
    EXPECT_TRUE(repeats.count_once(message));
  }
}

// ---- configuration ------------------------------------------------------------------------------

TEST(SourcesConfig, IsReadFromYaml) {
  SourcesConfig config;
  const std::string text = R"(
sources:
  root: /mnt/node
  kmsg: {interval: 1s, user_records: true}
  smart: {enabled: false, program: /opt/smartctl}
  network: {interfaces: [ib0, eth1]}
  checks: {commands: ["nhc -a"], limit: 10s}
  replay: {file: /run/lifeboat/drill}
)";
  const auto read = yaml::read(text, "t.yaml", [&](yaml::Reader& m) {
    m.map("sources", [&](yaml::Reader& s) { read_sources(s, config); });
  });
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(config.place.root, "/mnt/node");
  EXPECT_TRUE(config.kmsg.user_records);
  EXPECT_FALSE(config.smart.enabled);
  EXPECT_EQ(config.nvme.smartctl, "/opt/smartctl");
  EXPECT_EQ(config.network.interfaces, (std::vector<std::string>{"ib0", "eth1"}));
  EXPECT_EQ(config.checks.commands.at(0), "nhc -a");
  std::vector<std::string> names;
  for (const auto& source : make_sources(config)) names.push_back(source->name());
  EXPECT_EQ(names, (std::vector<std::string>{"kmsg", "journal", "rasdaemon", "edac", "nvme", "ipmi",
                                             "thermal", "pressure", "network", "pcie", "checks",
                                             "replay"}));
}

TEST(SourcesConfig, ChoosesByName) {
  SourcesConfig config;
  ASSERT_TRUE(config.only({"edac", "pressure"}));
  EXPECT_EQ(make_sources(config).size(), 2u);
  const auto wrong = config.only({"edax"});
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().message,
            "no source 'edax'; there are checks, edac, ipmi, journal, kmsg, network, nvme, pcie, "
            "pressure, rasdaemon, smart, thermal");
}

// Every source on a tree where everything is garbage: no crash and no event.
TEST(Sources, SurviveATreeOfGarbage) {
  Tree tree;
  for (const std::string file :
       {"/dev/kmsg", "/proc/uptime", "/proc/sys/kernel/random/boot_id", "/proc/pressure/memory",
        "/proc/pressure/io", "/var/lib/rasdaemon/ras-mc_event.db",
        "/sys/devices/system/edac/mc/mc0/ce_noinfo_count",
        "/sys/devices/system/edac/mc/mc0/dimm0/dimm_ce_count",
        "/sys/devices/system/edac/mc/mc0/dimm0/dimm_label", "/sys/class/thermal/thermal_zone0/temp",
        "/sys/class/thermal/thermal_zone0/trip_point_0_temp", "/sys/class/hwmon/hwmon0/temp1_input",
        "/sys/class/net/eth0/device/x", "/sys/class/net/eth0/carrier_changes",
        "/sys/class/infiniband/m/ports/1/counters/symbol_error",
        "/sys/bus/pci/devices/0000:3b:00.0/aer_dev_fatal"}) {
    tree.write(file, garbage(20'000));
  }
  tree.script("/bin/garbage", "head -c 20000 /dev/urandom");
  tree.write("/dev/ipmi0", "");
  tree.write("/sys/block/sda/size", "1");
  tree.write("/sys/class/nvme/nvme0/model", "x");
  tree.script("/etc/lifeboat/checks.d/noise", "head -c 20000 /dev/urandom; exit 9");
  SourcesConfig config;
  config.place = tree.place();
  const std::string noise = tree.path("/bin/garbage");
  config.journal.program = config.ipmi.program = config.nvme.nvme = config.smart.smartctl = noise;
  config.replay.file = tree.path("/dev/kmsg");
  SourceSet set(make_sources(config));
  ASSERT_TRUE(set.restore(R"({"kmsg":"{","edac":"[]","rasdaemon":"{\"ids\":1}","ipmi":"x"})"));
  const std::vector<std::string> names{"kmsg",     "rasdaemon", "edac", "ipmi",   "smart",   "nvme",
                                       "pressure", "network",   "pcie", "checks", "journal", "replay"};
  std::map<std::string, int> said;
  const auto silent = [&](const std::string& source) { return !said.contains(source); };
  Time now = kNow;
  // Programs take real time: until all have spoken, and within the hour after which they may say it again.
  for (int i = 0; i < 60 || (i < 700 && std::ranges::any_of(names, silent)); ++i) {
    const auto polled = set.poll(now);
    for (const Event& event : polled.events) ADD_FAILURE() << to_replay_line(event);
    for (const Notice& notice : polled.notices) ++said[notice.source];
    now += seconds(5);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  for (const std::string& source : names) {
    EXPECT_GE(said[source], 1) << source;
    EXPECT_LE(said[source], static_cast<int>(SourceSet::kSaidMax)) << source;
  }
}

}  // namespace
}  // namespace lifeboat::predictor
