// Sources that run a program, with scripts in place of the programs: SMART, NVMe, IPMI, journal.
#include "predictor/sources/disk_health.hpp"
#include "predictor/sources/ipmi.hpp"
#include "predictor/sources/journal.hpp"
#include "unit/predictor/tree.hpp"

namespace lifeboat::predictor {
namespace {

using std::chrono::milliseconds;

// Polls until all programs of one round have ended; what they told, and the last error.
std::vector<Event> round(Source& source, std::string* error = nullptr) {
  std::vector<Event> all;
  for (int i = 0; i < 1000; ++i) {
    const auto events = source.poll(kNow);
    if (events) all.insert(all.end(), events->begin(), events->end());
    if (!events && error != nullptr) *error = events.error().message;
    if (source.interval() > std::chrono::seconds(1)) break;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return all;
}

// What a program of this name prints from now on.
void prints(const Tree& tree, const std::string& program, const std::string& text) {
  tree.write(program + ".out", text);
  tree.script(program, "cat " + tree.path(program + ".out"));
}

// ---- disks --------------------------------------------------------------------------------------

std::string ata(bool passed, int reallocated, int pending) {
  return R"({"smartctl": {"exit_status": )" + std::string(passed ? "0" : "8") +
         R"(}, "smart_status": {"passed": )" + (passed ? "true" : "false") +
         R"(}, "ata_smart_attributes": {"table": [{"id": 5, "raw": {"value": )" +
         std::to_string(reallocated) + R"(}}, {"id": 197, "raw": {"value": )" +
         std::to_string(pending) + R"(}}, {"id": 9, "raw": {"value": 5}}]}})";
}

class Smart : public ::testing::Test {
 protected:
  Smart() {
    tree.write("/sys/block/sda/size", "1\n");
    options.smartctl = tree.path("/bin/smartctl");
    options.nvme = tree.path("/bin/nvme");
  }
  DiskHealthSource source(DiskHealthSource::Which which = DiskHealthSource::Which::kSmart) {
    return {tree.place(), which, options};
  }
  Tree tree;
  DiskHealthOptions options;
};

TEST_F(Smart, TellsGrowthAndAFailingDisk) {
  DiskHealthSource smart = source();
  prints(tree, "/bin/smartctl", ata(true, 8, 0));
  EXPECT_TRUE(round(smart).empty());
  prints(tree, "/bin/smartctl", ata(false, 11, 2));
  DiskHealthSource after = source();
  after.restore(smart.save());
  const auto events = round(after);
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].text, "sda: SMART expects it to fail");
  EXPECT_EQ(events[0].severity, Severity::kCritical);
  EXPECT_EQ(events[0].kind, EventKind::kDisk);
  EXPECT_EQ(events[1].text, "sda: reallocated_sectors +3");
  EXPECT_EQ(events[1].count, 3u);
  EXPECT_EQ(events[2].text, "sda: pending_sectors +2");
  prints(tree, "/bin/smartctl", ata(true, 11, 0));  // pending sectors were written again
  EXPECT_TRUE(round(after).empty());
}

TEST_F(Smart, EndsAProgramThatHangsAndAsksTheNextDisk) {
  tree.write("/sys/block/sdb/size", "1\n");
  tree.script("/bin/smartctl", "case \"$*\" in *sda) sleep 1000;; esac; cat " + tree.path("/out"));
  tree.write("/out", ata(false, 0, 0));
  options.limit = milliseconds(2000);
  DiskHealthSource smart = source();
  std::string error;
  const auto events = round(smart, &error);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].location, "sdb");
  EXPECT_NE(error.find("sda: "), std::string::npos) << error;
  EXPECT_NE(error.find("was ended after 2000 ms"), std::string::npos) << error;
}

TEST_F(Smart, ConcludesNothingFromGarbage) {
  const std::vector<std::pair<std::string, std::string>> bad{
      {garbage(5000), "sda: not valid JSON"},
      {"", "sda: not valid JSON"},
      {R"({"smartctl":{"exit_status":2}})", "sda: smartctl could not ask it"},
      {R"({"smartctl":{"exit_status":0},"smart_status":{"passed":"no"}})", "sda: smartctl says nothing"},
      {R"({"smart_status":{"passed":false}})", "sda: no report"}};
  for (const auto& [text, expected] : bad) {
    prints(tree, "/bin/smartctl", text);
    DiskHealthSource smart = source();
    std::string error;
    EXPECT_TRUE(round(smart, &error).empty());
    EXPECT_EQ(error.substr(0, expected.size()), expected);
  }
}

TEST_F(Smart, IsMissingWithoutDisksOrProgram) {
  DiskHealthSource nvme = source(DiskHealthSource::Which::kNvme);
  EXPECT_EQ(nvme.poll(kNow).error().code, Errc::kNotFound);
  DiskHealthSource smart = source();
  const auto events = smart.poll(kNow);
  EXPECT_EQ(events.error().code, Errc::kNotFound);
  EXPECT_EQ(error_of(events), "there is no program " + options.smartctl);
}

TEST_F(Smart, ReadsNvmeByEitherProgram) {
  tree.write("/sys/class/nvme/nvme0/model", "x\n");
  prints(tree, "/bin/smartctl",
         R"({"smartctl":{"exit_status":8},"smart_status":{"passed":false},
             "nvme_smart_health_information_log":{"critical_warning":4,"available_spare":100,
             "available_spare_threshold":10,"percentage_used":3,"media_errors":0}})");
  DiskHealthSource nvme = source(DiskHealthSource::Which::kNvme);
  const auto by_smartctl = round(nvme);
  ASSERT_EQ(by_smartctl.size(), 2u);
  EXPECT_EQ(by_smartctl[1].text, "nvme0: reliability is degraded");
  EXPECT_EQ(by_smartctl[1].source, "nvme");

  prints(tree, "/bin/nvme",
         R"({"critical_warning":2,"temperature":360,"avail_spare":9,"spare_thresh":10,
             "percent_used":101,"media_errors":5})");
  const auto by_nvme = round(nvme);
  ASSERT_EQ(by_nvme.size(), 4u);
  EXPECT_EQ(by_nvme[0].text, "nvme0: temperature is beyond a threshold");
  EXPECT_EQ(by_nvme[1].text, "nvme0: spare space is low");
  EXPECT_EQ(by_nvme[2].severity, Severity::kNotice);
  EXPECT_EQ(by_nvme[3].text, "nvme0: media_errors +5");
}

// ---- IPMI ---------------------------------------------------------------------------------------

constexpr const char* kOld = "  17 | 01/27/2015 | 11:31:21 | OS Boot | C: boot completed | Asserted\n";

class Ipmi : public ::testing::Test {
 protected:
  Ipmi() {
    tree.write("/dev/ipmi0", "");
    options.program = tree.path("/bin/ipmitool");
  }
  IpmiSource source() { return {tree.place(), options}; }
  Tree tree;
  IpmiOptions options;
};

TEST_F(Ipmi, TellsNewEntriesAlsoAfterTheLogWasCleared) {
  IpmiSource ipmi = source();
  prints(tree, "/bin/ipmitool", kOld);
  EXPECT_TRUE(round(ipmi).empty());
  prints(tree, "/bin/ipmitool",
         std::string(kOld) +
             "  18 | 01/27/2015 | 11:41:08 | Memory | Correctable ECC | Asserted | CPU 0 DIMM 8\n");
  const auto events = round(ipmi);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, EventKind::kCorrectedMemory);
  EXPECT_EQ(events[0].time, Time(std::chrono::seconds(1'422'358'868)));
  EXPECT_EQ(events[0].text, "Memory | Correctable ECC | Asserted | CPU 0 DIMM 8");
  // Cleared, and the id is used again.
  prints(tree, "/bin/ipmitool", "  17 | 01/28/2015 | 00:00:01 | Power Supply 1 | Failure detected | Asserted\n");
  IpmiSource after = source();
  after.restore(ipmi.save());
  const auto cleared = round(after);
  ASSERT_EQ(cleared.size(), 1u);
  EXPECT_EQ(cleared[0].kind, EventKind::kPower);
  EXPECT_EQ(cleared[0].severity, Severity::kError);
  EXPECT_TRUE(round(after).empty());
}

TEST_F(Ipmi, ConcludesNothingFromGarbage) {
  IpmiSource ipmi = source();
  prints(tree, "/bin/ipmitool", kOld);
  (void)round(ipmi);
  std::string error;
  prints(tree, "/bin/ipmitool", garbage(5000));
  EXPECT_TRUE(round(ipmi, &error).empty());
  EXPECT_NE(error.find("no entries"), std::string::npos) << error;
  tree.script("/bin/ipmitool", "echo '  99 | 01/28/2015 | 00:00:01 | Memory | Uncorrectable ECC | Asserted'; exit 1");
  EXPECT_TRUE(round(ipmi, &error).empty());
  EXPECT_NE(error.find("ended with 1"), std::string::npos) << error;
  prints(tree, "/bin/ipmitool", kOld);  // what was known stays known
  EXPECT_TRUE(round(ipmi).empty());
}

TEST(Sel, SaysWhatAnEntryIsAbout) {
  struct Case {
    const char* line;
    EventKind kind;
    Severity severity;
  };
  const std::vector<Case> cases{
      {"3 | Pre-Init Time-stamp | Memory #0x12 | Uncorrectable ECC | Asserted",
       EventKind::kUncorrectedMemory, Severity::kCritical},
      {"3 | Pre-Init  |0000000003| Memory #0x12 | Uncorrectable ECC | Asserted",
       EventKind::kUncorrectedMemory, Severity::kCritical},
      {"3e | 10/02/2015 | 22:07:09 | Temperature Inlet Temp | Upper Non-critical going high | "
       "Asserted | Reading 43 > Threshold 42 degrees C", EventKind::kTemperature, Severity::kWarning},
      {"3e | 10/02/2015 | 22:07:09 UTC | Temperature Inlet Temp | Upper Critical going high | Deasserted",
       EventKind::kMessage, Severity::kInfo},
      {"4 | 10/02/2015 | 22:07:09 | Processor CPU1 | IERR | Asserted", EventKind::kProcessor,
       Severity::kCritical},
      {"4 | 10/02/2015 | 22:07:09 | Power Supply PS1 | Presence detected | Asserted", EventKind::kPower,
       Severity::kInfo},
      {"4 | 10/02/2015 | 22:07:09 | Fan FAN3 | Lower Non-recoverable going low | Asserted",
       EventKind::kPower, Severity::kFatal},
      {"4 | 10/02/2015 | 22:07:09 | Event Logging Disabled | Log area reset/cleared | Asserted",
       EventKind::kMessage, Severity::kInfo}};
  for (const Case& c : cases) {
    const auto event = parse_sel_line(c.line, kNow);
    ASSERT_TRUE(event) << c.line;
    EXPECT_EQ(to_string(event->kind), to_string(c.kind)) << c.line;
    EXPECT_EQ(to_string(event->severity), to_string(c.severity)) << c.line;
  }
  for (const char* line : {"", "|||", "x | 1 | 2 | 3 | 4", "1 | 13/45/2015 | 25:99:99 | a | b",
                           "SEL has no entries", "1 | Pre-Init | 2"}) {
    EXPECT_FALSE(parse_sel_line(line, kNow)) << line;
  }
}

// ---- journal ------------------------------------------------------------------------------------

std::string entry(const std::string& cursor, const std::string& message, const std::string& more = "") {
  return R"({"__CURSOR":")" + cursor + R"(","__REALTIME_TIMESTAMP":"1690000000000000","PRIORITY":"3",)" +
         more + R"("SYSLOG_IDENTIFIER":"slurmd","MESSAGE":)" + message + "}\n";
}

TEST(Journal, FollowsAndGoesOnBehindTheLastEntry) {
  Tree tree;
  JournalOptions options;
  options.program = tree.path("/bin/journalctl");
  tree.write("/out", entry("c1", R"("lost the fabric")") + entry("c2", "[104,105,255]") +
                         entry("c3", R"x("EDAC MC0: 1 UE x on A (page:0x1)")x",
                               R"("_TRANSPORT":"kernel",)") +
                         entry("c4", "null"));
  tree.script("/bin/journalctl", "echo \"$@\" > " + tree.path("/arguments") + "; cat " +
                                     tree.path("/out") + "; exec sleep 1000");
  std::string saved;
  {
    JournalSource journal(tree.place(), options);
    const auto events = poll_until_done(journal);
    ASSERT_TRUE(events) << events.error().message;
    ASSERT_EQ(events->size(), 2u);
    EXPECT_EQ(events->at(0).text, "slurmd: lost the fabric");
    EXPECT_EQ(events->at(0).severity, Severity::kError);
    EXPECT_EQ(events->at(0).time, Time(std::chrono::seconds(1'690'000'000)));
    EXPECT_EQ(events->at(1).text, "slurmd: hi\\xff");
    EXPECT_NE(read_value(tree.path("/arguments")).find("--lines=0"), std::string::npos);
    saved = journal.save();
    EXPECT_EQ(saved, "c4");
  }
  JournalSource after(tree.place(), options);
  after.restore(saved);
  (void)poll_until_done(after);
  EXPECT_NE(read_value(tree.path("/arguments")).find("--after-cursor=c4"), std::string::npos);
}

TEST(Journal, WhatLifeboatItselfSaysIsNoEvent) {
  std::string own = entry("c", R"("node is not up state=degraded")");
  own.replace(own.find("slurmd"), 6, "lifeboatd");
  const auto parsed = parse_journal_entry(own, {"", "n1"}, false);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->cursor, "c");
  EXPECT_FALSE(parsed->event);
}

TEST(Journal, MayHaveTheKernelsEntriesToo) {
  const auto parsed = parse_journal_entry(
      entry("c", R"x("EDAC MC0: 1 UE x on A (page:0x1)")x", R"("_TRANSPORT":"kernel",)"), {"", "n1"}, true);
  ASSERT_TRUE(parsed && parsed->event);
  EXPECT_EQ(parsed->event->kind, EventKind::kUncorrectedMemory);
  const auto forged =
      parse_journal_entry(entry("c", R"x("EDAC MC0: 1 UE x on A (page:0x1)")x"), {"", "n1"}, true);
  EXPECT_EQ(forged->event->kind, EventKind::kMessage);
}

TEST(Journal, SaysWhenItEndsOrTellsGarbage) {
  Tree tree;
  JournalOptions options;
  options.program = tree.path("/bin/journalctl");
  tree.script("/bin/journalctl", "exit 1");
  JournalSource ends(tree.place(), options);
  EXPECT_EQ(error_of(poll_until_done(ends)), "journal: " + options.program + " ended with 1");
  tree.script("/bin/journalctl", "head -c 500000 /dev/zero; echo; echo '{}'; echo x; exec sleep 1000");
  JournalSource bad(tree.place(), options);
  EXPECT_NE(error_of(poll_until_done(bad)), "no error");
}

}  // namespace
}  // namespace lifeboat::predictor
