// A node that watches itself: from a counter below a root of its own to the state of the node.
#include "node_watch.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/file.hpp"

namespace lifeboat {
namespace {

class NodeWatchTest : public testing::Test {
 protected:
  NodeWatchTest() {
    char name[] = "/tmp/lifeboat-watch-XXXXXX";
    directory_ = ::mkdtemp(name);
    write("root/proc/sys/kernel/random/boot_id", "first\n");
    dimm();
    const std::string text = R"(
cluster: test
node: n1
paths: {state_dir: )" + directory_ + R"(/state}
fabrics: [{name: 1g, bridge: br, subnet: 10.1.0.0/16, rate: 1Gbit}]
nodes: [{name: n1, addresses: {1g: 10.1.0.11}, memory: 8GiB}]
sources:
  root: )" + directory_ + R"(/root
  edac: {interval: 100ms}
  journal: {enabled: false}
  smart: {enabled: false}
  nvme: {enabled: false}
  ipmi: {enabled: false}
)";
    config_ = parse_config(text, "test.yaml").value();
    std::filesystem::create_directories(directory_ + "/state");
  }
  ~NodeWatchTest() override { std::filesystem::remove_all(directory_); }

  void write(const std::string& path, const std::string& text) const {
    const std::filesystem::path whole = directory_ + "/" + path;
    std::filesystem::create_directories(whole.parent_path());
    std::ofstream(whole) << text;
  }
  void dimm() const {
    const std::string mc = "root/sys/devices/system/edac/mc/mc0/";
    write(mc + "ce_noinfo_count", "0\n");
    write(mc + "ue_noinfo_count", "0\n");
    write(mc + "dimm0/dimm_label", "DIMM_A1\n");
    write(mc + "dimm0/dimm_ue_count", "0\n");
    corrected(0);
  }
  void corrected(int errors) const {
    write("root/sys/devices/system/edac/mc/mc0/dimm0/dimm_ce_count", std::to_string(errors) + "\n");
  }
  [[nodiscard]] std::string saved() const {
    return read_file(directory_ + "/state/predictor.json", 1 << 20).value_or("");
  }

  std::string directory_;
  Config config_;
};

TEST_F(NodeWatchTest, ErrorsOfItsMemoryDegradeTheNode) {
  asio::io_context context;
  Health health(config_.health, "n1");
  NodeWatch watch(context.get_executor(), config_, "n1", health);
  watch.start();
  context.run_for(Milliseconds(500));
  EXPECT_EQ(health.own().condition(), predictor::NodeCondition::kUp);
  // It counts from the counter's first value, whenever the first look is.
  for (int errors = 12; errors <= 600 && health.own().reason() == nullptr; errors += 12) {
    corrected(errors);
    context.run_for(Milliseconds(500));
  }
  const predictor::Reason* reason = health.own().reason();
  ASSERT_NE(reason, nullptr);
  EXPECT_EQ(reason->cause, predictor::Cause::kPredictor);
  EXPECT_EQ(reason->condition, predictor::NodeCondition::kDegraded);
  EXPECT_GT(reason->risk, 0);
  ASSERT_FALSE(reason->evidence.empty());
  EXPECT_NE(reason->evidence.back().find("edac mc0/DIMM_A1: "), std::string::npos)
      << reason->evidence.back();
  context.stop();
  watch.end();
  EXPECT_NE(saved().find("\"clean\":true"), std::string::npos) << saved();
}

TEST_F(NodeWatchTest, ANodeThatStopsWithoutAShutdownHasFailed) {
  const auto run = [&](bool shut_down) {
    asio::io_context context;
    Health health(config_.health, "n1");
    NodeWatch watch(context.get_executor(), config_, "n1", health);
    watch.start();
    for (int i = 0; i < 600 && saved().empty(); ++i) context.run_for(Milliseconds(50));
    context.run_for(Milliseconds(50));
    const std::string before = saved();
    context.stop();
    watch.end();
    if (!shut_down) write("state/predictor.json", before);
  };
  const auto with_history = [&] {
    predictor::Predictor learned(config_.predictor);
    const auto object = parse_object(saved());
    if (!object || !learned.load(string_or(*object, "predictor"))) return std::string("unreadable");
    return string_or(*object, "boot");
  };
  run(false);
  ASSERT_EQ(with_history(), "first");
  const std::string calm = saved();
  write("root/proc/sys/kernel/random/boot_id", "second\n");
  run(true);
  EXPECT_EQ(with_history(), "second");
  EXPECT_NE(saved().size(), calm.size()) << "the failure is not in what was learned";
}

TEST_F(NodeWatchTest, DamagedStateIsSaidAndBegunAnew) {
  write("state/predictor.json", "{\"predictor\": \"no");
  asio::io_context context;
  Health health(config_.health, "n1");
  NodeWatch watch(context.get_executor(), config_, "n1", health);
  watch.start();
  context.run_for(Milliseconds(200));
  context.stop();
  watch.end();
  EXPECT_TRUE(parse_object(saved())) << saved();
}

TEST(Evidence, OneLineSaysWhenWhereAndWhy) {
  predictor::Evidence evidence;
  evidence.event.time = predictor::Time(predictor::Duration(1'700'000'000'000'000));
  evidence.event.source = "edac";
  evidence.event.location = "mc0/DIMM_A1";
  evidence.event.text = "corrected memory errors";
  evidence.event.count = 12;
  evidence.why = "more than 10 in 24 h";
  EXPECT_EQ(evidence_line(evidence),
            "2023-11-14T22:13:20.000Z edac mc0/DIMM_A1: corrected memory errors (12 times) - more than "
            "10 in 24 h");
}

}  // namespace
}  // namespace lifeboat
