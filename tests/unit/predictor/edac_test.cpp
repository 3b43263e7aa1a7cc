#include "predictor/sources/edac.hpp"

#include "unit/predictor/tree.hpp"

namespace lifeboat::predictor {
namespace {

const std::string kMc = "/sys/devices/system/edac/mc/mc0";

class Edac : public ::testing::Test {
 protected:
  Edac() {
    tree.boot("b1");
    tree.write(kMc + "/ce_noinfo_count", "0\n");
    tree.write(kMc + "/dimm0/dimm_label", "DIMM_A1\n");
    tree.write(kMc + "/dimm0/dimm_location", "channel 0 slot 0 \n");
    count("ce", "37\n");
    count("ue", "0\n");
  }
  void count(const std::string& what, const std::string& value) {
    tree.write(kMc + "/dimm0/dimm_" + what + "_count", value);
  }
  EdacSource source() { return {tree.place(), std::chrono::seconds(10)}; }
  Tree tree;
};

TEST_F(Edac, TellsWhatIsNewPerDimm) {
  EdacSource edac = source();
  EXPECT_TRUE(edac.poll(kNow)->empty());  // 37 of unknown age
  count("ce", "40\n");
  count("ue", "1\n");
  tree.write(kMc + "/ce_noinfo_count", "5\n");
  const auto events = edac.poll(kNow);
  ASSERT_EQ(events->size(), 3u);
  EXPECT_EQ(events->at(0).location, "mc0");
  EXPECT_EQ(events->at(0).count, 5u);
  EXPECT_EQ(events->at(1).location, "mc0/DIMM_A1");
  EXPECT_EQ(events->at(1).kind, EventKind::kCorrectedMemory);
  EXPECT_EQ(events->at(1).count, 3u);
  EXPECT_EQ(detail(events->at(1), "place"), "channel 0 slot 0");
  EXPECT_EQ(events->at(2).kind, EventKind::kUncorrectedMemory);
  EXPECT_EQ(events->at(2).text, "1 uncorrected memory errors on mc0/DIMM_A1");
}

TEST_F(Edac, CountsOnAfterARestartButNotAcrossABoot) {
  EdacSource before = source();
  (void)before.poll(kNow);
  count("ce", "38\n");
  const std::string saved = before.save();
  EdacSource after = source();
  after.restore(saved);
  EXPECT_EQ(after.poll(kNow)->size(), 1u);
  tree.boot("b2");
  EdacSource rebooted = source();
  rebooted.restore(saved);
  EXPECT_TRUE(rebooted.poll(kNow)->empty());
}

TEST_F(Edac, TakesAStepBackAsAReset) {
  EdacSource edac = source();
  (void)edac.poll(kNow);
  count("ce", "2\n");
  EXPECT_TRUE(edac.poll(kNow)->empty());
  count("ce", "3\n");
  ASSERT_EQ(edac.poll(kNow)->size(), 1u);
}

TEST_F(Edac, SaysWhatIsGarbageAndConcludesNothingFromIt) {
  EdacSource edac = source();
  (void)edac.poll(kNow);
  for (const std::string& bad : {garbage(100), garbage(100'000), std::string("-1\n"), std::string()}) {
    count("ce", bad);
    EXPECT_EQ(error_of(edac.poll(kNow)), tree.path(kMc) + "/dimm0/dimm_ce_count holds no number");
  }
  edac.restore(garbage(1000));
  edac.restore(R"({"boot":"b1","values":{"mc0/dimm0/ce":"many"}})");
  count("ce", "37\n");
  EXPECT_TRUE(edac.poll(kNow)->empty());
}

TEST(EdacMissing, IsNotFound) {
  Tree tree;
  EdacSource edac(tree.place(), std::chrono::seconds(10));
  EXPECT_EQ(edac.poll(kNow).error().code, Errc::kNotFound);
}

}  // namespace
}  // namespace lifeboat::predictor
