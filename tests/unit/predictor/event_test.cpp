#include "predictor/event.hpp"

#include <gtest/gtest.h>

namespace lifeboat::predictor {
namespace {

TEST(Event, SurvivesAReplayFile) {
  Event event;
  event.time = Time(Duration(1'700'000'000'123'456));
  event.node = "n1";
  event.location = "mc0/dimm3";
  event.source = "edac";
  event.kind = EventKind::kCorrectedMemory;
  event.severity = Severity::kWarning;
  event.count = 7;
  event.text = "7 corrected errors on \"DIMM_A1\"\n";
  event.details = {{"row", "17"}, {"bank", "2"}};
  const auto back = parse_replay_line(to_replay_line(event));
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, event);
  EXPECT_EQ(detail(*back, "bank"), "2");
  EXPECT_EQ(detail(*back, "column"), "");
}

TEST(Event, SaysWhatIsWrongWithALine) {
  const auto message = [](std::string_view line) {
    const auto event = parse_replay_line(line);
    return event ? std::string("taken") : event.error().message;
  };
  EXPECT_NE(message("not JSON"), "taken");
  EXPECT_EQ(message(R"({"node":"n1"})"),
            "member 't' is missing or no number of microseconds");
  EXPECT_NE(message(R"({"t":1,"node":"n1","kind":"odd"})").find("no kind of event 'odd'"),
            std::string::npos);
  EXPECT_EQ(message(R"({"t":1,"node":"n1","later":[1]})"), "taken");
}

}  // namespace
}  // namespace lifeboat::predictor
