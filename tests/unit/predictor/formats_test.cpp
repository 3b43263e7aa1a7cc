// Logs of other machines: what a good line becomes, and what happens to a bad one.
#include "predictor/evaluate/formats.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

Time at(std::int64_t second) { return Time(std::chrono::seconds(second)); }

Log read(Format format, const std::string& text, const std::vector<Input>& labels = {}) {
  auto log = read_log(format, {{"log", text}}, labels);
  EXPECT_TRUE(log.has_value()) << log.error().message;
  return log ? *std::move(log) : Log{};
}

std::vector<Event> of_kind(const Log& log, EventKind kind) {
  std::vector<Event> found;
  std::copy_if(log.events.begin(), log.events.end(), std::back_inserter(found),
               [&](const Event& event) { return event.kind == kind; });
  return found;
}

const std::string kLanlHeading =
    "start,end,system,node,cause_class,cause,purpose,system_nodes,procs_per_node\n";

TEST(Formats, NamesAreKnown) {
  EXPECT_EQ(format_from("mira"), Format::kMira);
  const auto unknown = format_from("cray");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().message,
            "no format 'cray'; there are lanl, mira, alibaba, bgl, kmsg, replay");
}

TEST(Formats, LanlFailureIsDownUntilFixed) {
  const Log log = read(Format::kLanl, kLanlHeading + "1000,4600,18,1,Hardware,CPU,,2,4\n");
  EXPECT_EQ(log.rejected, 0u);
  ASSERT_EQ(log.events.size(), 4u);  // two nodes in service, one goes down and comes back
  const auto down = of_kind(log, EventKind::kDown);
  ASSERT_EQ(down.size(), 1u);
  EXPECT_EQ(down[0].node, "18/1");
  EXPECT_EQ(down[0].time, at(1000));
  EXPECT_EQ(down[0].text, "CPU");
  EXPECT_EQ(detail(down[0], "group"), "18");
  EXPECT_EQ(detail(down[0], "cause_class"), "Hardware");
  EXPECT_EQ(log.events.back().kind, EventKind::kRepaired);
  EXPECT_EQ(log.events.back().time, at(4600));
  EXPECT_EQ(population_of(Format::kLanl, "18/1"), "smp");
  EXPECT_EQ(population_of(Format::kLanl, "2/0"), "numa");
  EXPECT_EQ(population_of(Format::kLanl, "7/0"), "other");
}

TEST(Formats, FailuresThatOverlapAreOne) {
  const Log log = read(Format::kLanl, "1000,2000,18,0,,,,1,4\n"
                                      "1500,1800,18,0,,,,1,4\n"
                                      "2200,2500,18,0,,,,1,4\n"    // 200 s after the repair
                                      "9000,9100,18,0,,,,1,4\n");
  const auto down = of_kind(log, EventKind::kDown);
  ASSERT_EQ(down.size(), 2u);
  EXPECT_EQ(down[0].time, at(1000));
  EXPECT_EQ(down[1].time, at(9000));
  EXPECT_EQ(of_kind(log, EventKind::kRepaired)[1].time, at(2500));
}

TEST(Formats, TimesAreSorted) {
  const Log log = read(Format::kLanl, "9000,9100,18,0,,,,1,4\n1000,2000,18,0,,,,1,4\n");
  EXPECT_TRUE(std::is_sorted(log.events.begin(), log.events.end(),
                             [](const Event& a, const Event& b) { return a.time < b.time; }));
  EXPECT_EQ(begin_of(log), at(1000));
}

TEST(Formats, BadLinesAreCountedAndTheFirstNamed) {
  const Log log = read(Format::kLanl, kLanlHeading +
                                          "1000,4600,18,1,Hardware,CPU,,2,4\n"
                                          "1000,4600,18\n"                              // columns
                                          "soon,4600,18,1,Hardware,CPU,,2,4\n"          // no number
                                          "9223372036854775807,1,18,1,,,,2,4\n"         // no date
                                          "1000,4600,-,1,Hardware,CPU,,2,4\n" +
                                          std::string(1 << 20, 'x') + "\n");
  EXPECT_EQ(log.rejected, 5u);
  EXPECT_EQ(log.first_rejected, "log:3");
  EXPECT_EQ(of_kind(log, EventKind::kDown).size(), 1u);
}

TEST(Formats, TextWithoutOneGoodLineIsAnError) {
  for (const char* text : {"", "\n\n", "no such thing\n", "\xff\xfe\x00\x01\n"}) {
    for (const char* name : {"lanl", "mira", "alibaba", "bgl", "kmsg", "replay"}) {
      const auto log = read_log(*format_from(name), {{"log", text}}, {});
      ASSERT_FALSE(log.has_value()) << name << ": " << text;
      EXPECT_EQ(log.error().code, Errc::kInvalid);
      EXPECT_EQ(log.error().message, std::string("log: no line is of the format ") + name);
    }
  }
}

TEST(Formats, WhatTheTrainingHasOfTheTestIsPassedOver) {
  const std::vector<Input> inputs{{"train", "1000,2000,18,0,,,,1,4\n9000,9100,18,0,,,,1,4\n"},
                                  {"test", "8000,8100,18,0,,,,1,4\n"}};
  const auto log = read_log(Format::kLanl, inputs, {}, 1, at(8000));
  ASSERT_TRUE(log.has_value());
  const auto down = of_kind(*log, EventKind::kDown);
  ASSERT_EQ(down.size(), 2u);
  EXPECT_EQ(down[1].time, at(8000));
}

const std::string kFatal = "5000,5010,00AB0001,Memory,FW,3,R12-M0-N03-J05,0,0\n";

TEST(Formats, MiraEventIsAFailureWithoutLabels) {
  const Log log = read(Format::kMira, kFatal);
  const auto down = of_kind(log, EventKind::kDown);
  ASSERT_EQ(down.size(), 1u);
  EXPECT_EQ(down[0].node, "R12-M0-N03");
  const auto said = of_kind(log, EventKind::kMessage);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].location, "R12-M0-N03-J05");
  EXPECT_EQ(detail(said[0], "template"), "00AB0001");
  EXPECT_EQ(detail(said[0], "group"), "R12-M0");
  EXPECT_TRUE(is_scored(Format::kMira, "R12-M0-N03"));
  EXPECT_FALSE(is_scored(Format::kMira, "machine"));
}

TEST(Formats, MiraLabelsAreTheReservationsThatNameABoard) {
  const Log log = read(Format::kMira, kFatal,
                       {{"labels", "start,end,name\n"
                                   "7000,8000,R.hw.R12-M0-N03_R2F-M1-N15\n"
                                   "7000,8000,R.hw.R12-M1\n"
                                   "never,8000,R.hw.R12-M0-N04\n"}});
  std::vector<std::string> nodes;
  for (const Event& event : of_kind(log, EventKind::kDown)) {
    EXPECT_EQ(event.time, at(7000));
    nodes.push_back(event.node);
  }
  EXPECT_EQ(nodes, (std::vector<std::string>{"R12-M0-N03", "R2F-M1-N15"}));
}

TEST(Formats, AlibabaTicketIsAFailure) {
  const Log log = read(Format::kAlibaba, "time,node,rack,room,disk,model,app\n"
                                         "1000,77,12,3,5,B2,none\n"
                                         "1000,,12,3,5,B2,none\n");
  EXPECT_EQ(log.rejected, 1u);
  const auto down = of_kind(log, EventKind::kDown);
  ASSERT_EQ(down.size(), 1u);
  EXPECT_EQ(down[0].node, "77");
  EXPECT_EQ(detail(down[0], "group"), "12");
}

TEST(Formats, BlueGeneLineWithATagIsAFailure) {
  const std::string place = "R02-M1-N0-C:J12-U11";
  const std::string rest =
      " 2005.06.03 " + place + " 2005-06-03-15.42.50 " + place + " RAS KERNEL ";
  const Log log = read(Format::kBgl, "- 1000" + rest + "INFO a cache parity error was corrected\n" +
                                         "KERNX 2000" + rest + "FATAL data TLB error interrupt\n");
  const auto said = of_kind(log, EventKind::kMessage);
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[0].node, "R02-M1-N0");
  EXPECT_EQ(said[0].location, place);
  EXPECT_EQ(said[0].severity, Severity::kInfo);
  EXPECT_EQ(said[1].text, "KERNEL data TLB error interrupt");
  EXPECT_EQ(said[1].severity, Severity::kFatal);
  const auto down = of_kind(log, EventKind::kDown);
  ASSERT_EQ(down.size(), 1u);
  EXPECT_EQ(down[0].time, at(2000));
}

TEST(Formats, ThunderbirdLineSaysWhatItsSyslogSays) {
  const Log log = read(Format::kBgl,
                       "- 1000 2005.11.09 tb7 Nov 9 12:01:01 tb7/tb7 crond[12]: session closed\n"
                       "- 1001 2005.11.09 tb7 Nov 9 12:01:02 tb7/tb7 kernel: EDAC MC1: 1 UE read "
                       "error on DIMM_B2 (page:0x1)\n");
  ASSERT_EQ(log.events.size(), 2u);
  EXPECT_EQ(log.events[0].text, "crond[12]: session closed");
  EXPECT_EQ(log.events[1].kind, EventKind::kUncorrectedMemory);
  EXPECT_EQ(log.events[1].location, "mc1/DIMM_B2");
}

TEST(Formats, KernelRecordsAreClassifiedAsTheLiveOnes) {
  const Log log = read(
      Format::kKmsg,
      "5,0,0,-;Linux version 6.1 (a@b) #1\n"
      "3,7,2000000,-;EDAC MC0: 2 CE memory read error on DIMM_A1 (page:0x5 row:0x7 bank:3)\n"
      " SUBSYSTEM=mc\n"
      "12,8,3000000,-;EDAC MC0: 1 UE memory read error on DIMM_A1 (page:0x5)\n"  // of user space
      "0,9,4000000,-;Kernel panic - not syncing: hung\n");
  EXPECT_EQ(log.rejected, 0u);
  const auto corrected = of_kind(log, EventKind::kCorrectedMemory);
  ASSERT_EQ(corrected.size(), 1u);
  EXPECT_EQ(corrected[0].time, at(2));
  EXPECT_EQ(corrected[0].location, "mc0/DIMM_A1");
  EXPECT_EQ(corrected[0].count, 2u);
  EXPECT_EQ(detail(corrected[0], "row"), "0x7");
  EXPECT_EQ(detail(corrected[0], "bank"), "3");
  EXPECT_TRUE(of_kind(log, EventKind::kUncorrectedMemory).empty());
  ASSERT_EQ(of_kind(log, EventKind::kDown).size(), 1u);
  EXPECT_EQ(of_kind(log, EventKind::kRepaired).size(), 1u);
}

TEST(Formats, SequenceNumberThatGoesBackIsAnotherBoot) {
  const Log log = read(Format::kKmsg,
                       "6,10,5000000,-;one\n"
                       "6,11,4999990,-;two, of another processor\n"
                       "6,0,1000000,-;after the boot\n");
  ASSERT_EQ(log.events.size(), 3u);
  EXPECT_EQ(log.events[0].text, "two, of another processor");
  EXPECT_EQ(log.events[2].time, at(5) - 10us + 1s);
}

TEST(Formats, KernelRecordGarbageIsRejected) {
  const Log log = read(Format::kKmsg,
                       "6,1,1000,-;fine\n"
                       "6,2;too few\n"
                       "six,2,1000,-;no number\n"
                       "6,2,18446744073709551615,-;no time\n"
                       "6,2,-5,-;no time\n" +
                           std::string(1 << 20, '\x01') + "\n");
  EXPECT_EQ(log.events.size(), 1u);
  EXPECT_EQ(log.rejected, 5u);
}

TEST(Formats, SyslogYearTurnsWhenTheMonthGoesBack) {
  const Log log = read(Format::kKmsg,
                       "Dec 31 23:59:59 box sshd(pam)[7]: failure\n"
                       "Jan  1 00:00:01 box kernel: Out of memory: Killed process 9 (hpl)\n"
                       "Jan  1 25:00 box cut: off\n"
                       "Jan 99 00:00:02 box no: day\n"
                       "Foo  1 00:00:02 box no: month\n");
  EXPECT_EQ(log.rejected, 3u);
  ASSERT_EQ(log.events.size(), 2u);
  EXPECT_EQ(log.events[0].text, "sshd(pam)[7]: failure");
  EXPECT_EQ(log.events[1].time - log.events[0].time, 2s);
  EXPECT_EQ(log.events[1].kind, EventKind::kPressure);
  EXPECT_EQ(log.events[1].node, "box");
}

TEST(Formats, TextOfAnyLengthAndBytesIsBounded) {
  for (const std::string head : {"6,1,1000,-;", "Jan  1 00:00:01 box a: ",
                                 "- 1000 2005.11.09 tb7 Nov 9 12:01:01 tb7/tb7 a: "}) {
    const Format format = head[0] == '-' ? Format::kBgl : Format::kKmsg;
    const Log log = read(format, head + std::string(1 << 20, '\xff') + "\n");
    ASSERT_EQ(log.events.size(), 1u);
    EXPECT_LE(log.events[0].text.size(), kTextMax);
    EXPECT_EQ(log.events[0].text.find('\xff'), std::string::npos);
  }
}

TEST(Formats, ReplayIsReadAsWritten) {
  Event event;
  event.time = at(1000);
  event.node = "n1";
  event.location = "mc0/dimm3";
  event.kind = EventKind::kCorrectedMemory;
  event.count = 3;
  const Log log = read(Format::kReplay, "{}\n" + to_replay_line(event) + "{\"t\":1,\"node\":\n" +
                                            "{\"t\":9223372036854775807,\"node\":\"n1\"}\n" +
                                            "[1,2]\n");
  ASSERT_EQ(log.events.size(), 1u);
  EXPECT_EQ(log.events[0], event);
  EXPECT_EQ(log.rejected, 3u);
}

}  // namespace
}  // namespace lifeboat::predictor
