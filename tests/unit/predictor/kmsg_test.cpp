#include "predictor/sources/kmsg.hpp"

#include "predictor/sources/kernel_text.hpp"
#include "unit/predictor/tree.hpp"

namespace lifeboat::predictor {
namespace {

constexpr const char* kCe =
    "3,11,900000000,-;EDAC MC0: 2 CE memory read error on DIMM_A1 (channel:0 slot:0 page:0x1f4a2b "
    "offset:0x340 grain:32 syndrome:0x0 -  err_code:0x0101:0x0090 rank:1 bg:2 ba:1 row:0x6a3b "
    "col:0x2c8)\n";

class Kmsg : public ::testing::Test {
 protected:
  Kmsg() { tree.boot("b1"); }
  KmsgSource source(bool user_records = false) {
    KmsgOptions options;
    options.user_records = user_records;
    return {tree.place(), options};
  }
  Tree tree;
};

TEST_F(Kmsg, TellsRecordsWithTheirTimesAndWhatTheyAreAbout) {
  tree.write("/dev/kmsg", std::string("6,10,500000,-;usb 1-1: new device\n SUBSYSTEM=usb\n") + kCe);
  KmsgSource kmsg = source();
  const auto events = kmsg.poll(kNow);
  ASSERT_TRUE(events) << events.error().message;
  ASSERT_EQ(events->size(), 2u);
  const Event& usb = events->at(0);
  EXPECT_EQ(usb.kind, EventKind::kMessage);
  EXPECT_EQ(usb.severity, Severity::kInfo);
  EXPECT_EQ(usb.text, "usb 1-1: new device");
  EXPECT_EQ(detail(usb, "subsystem"), "usb");
  const Event& error = events->at(1);
  EXPECT_EQ(error.time, kNow - std::chrono::seconds(100));  // up for 1000 s, told after 900 s
  EXPECT_EQ(error.kind, EventKind::kCorrectedMemory);
  EXPECT_EQ(error.count, 2u);
  EXPECT_EQ(error.location, "mc0/DIMM_A1");
  EXPECT_EQ(detail(error, "row"), "0x6a3b");
  EXPECT_EQ(detail(error, "column"), "0x2c8");
  EXPECT_EQ(detail(error, "bank"), "2.1");
  EXPECT_EQ(detail(error, "page"), "0x1f4a2b");
}

TEST_F(Kmsg, GoesOnWhereItStoodInTheSameBoot) {
  tree.write("/dev/kmsg", "6,10,1,-;first\n");
  KmsgSource before = source();
  ASSERT_EQ(before.poll(kNow)->size(), 1u);
  tree.write("/dev/kmsg", "6,10,1,-;first\n6,11,2,-;second\n");
  const std::string saved = before.save();
  KmsgSource after = source();
  after.restore(saved);
  const auto events = after.poll(kNow);
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ(events->at(0).text, "second");
  EXPECT_TRUE(after.poll(kNow)->empty());

  tree.boot("b2");
  KmsgSource rebooted = source();
  rebooted.restore(saved);
  EXPECT_EQ(rebooted.poll(kNow)->size(), 2u);
}

TEST_F(Kmsg, BelievesTheKernelOnlyUnlessToldOtherwise) {
  const std::string forged = "12,10,1,-;EDAC MC0: 1 UE memory read error on DIMM_A1 (page:0x1)\n";
  tree.write("/dev/kmsg", forged);
  KmsgSource strict = source();
  EXPECT_TRUE(strict.poll(kNow)->empty());
  KmsgSource drill = source(true);
  const auto events = drill.poll(kNow);
  ASSERT_EQ(events->size(), 1u);
  EXPECT_EQ(events->at(0).kind, EventKind::kUncorrectedMemory);
  EXPECT_EQ(events->at(0).severity, Severity::kCritical);
}

TEST_F(Kmsg, PutsContinuationsTogetherAndUndoesEscapes) {
  tree.write("/dev/kmsg", "6,1,1,-;one,\n6,2,2,c; two\n6,3,3,-,caller=T1;a\\x5cb\\x01\\xff\n");
  KmsgSource kmsg = source();
  const auto events = kmsg.poll(kNow);
  ASSERT_EQ(events->size(), 2u);
  EXPECT_EQ(events->at(0).text, "one, two");
  EXPECT_EQ(events->at(1).text, "a\\b \\xff");
}

TEST_F(Kmsg, SurvivesGarbage) {
  tree.write("/dev/kmsg", garbage(300'000));
  KmsgSource bad = source();
  const auto events = bad.poll(kNow);
  ASSERT_FALSE(events);
  EXPECT_NE(error_of(events).find("no kernel records"), std::string::npos);

  tree.write("/dev/kmsg", "3,1,1,-;" + std::string(500'000, 'x') + "\n" + garbage(5000) + "\n" +
                              "99999,2,1,-;x\n6,-2,1,-;x\n6,2\n;\n3,3,18446744073709551615,-;last\n");
  KmsgSource kmsg = source();
  const auto rest = kmsg.poll(kNow);
  ASSERT_TRUE(rest);
  ASSERT_EQ(rest->size(), 1u);
  EXPECT_EQ(rest->at(0).text, "last");
  EXPECT_EQ(rest->at(0).time, kNow);  // never later than now
}

TEST_F(Kmsg, SaysWhatIsMissing) {
  KmsgSource none = source();
  EXPECT_EQ(none.poll(kNow).error().code, Errc::kNotFound);
  tree.write("/dev/kmsg", "6,1,1,-;x\n");
  tree.write("/proc/uptime", "soon\n");
  KmsgSource untimed = source();
  EXPECT_EQ(error_of(untimed.poll(kNow)), tree.path("/proc/uptime") + " holds no time");
}

// ---- what lines are about -----------------------------------------------------------------------

Event classified(const std::string& text) {
  Event event;
  event.text = text;
  classify_kernel_text(event);
  return event;
}

TEST(KernelText, KnowsHardwareInTrouble) {
  struct Case {
    const char* text;
    EventKind kind;
    Severity severity;
    const char* location;
  };
  const std::vector<Case> cases{
      {"EDAC MC1: 1 UE memory read error on any memory (page:0x1)", EventKind::kUncorrectedMemory,
       Severity::kCritical, "mc1"},
      {"EDAC MC1: 3 CE ecc error on A or B (page:0x1)", EventKind::kCorrectedMemory,
       Severity::kWarning, "mc1"},
      {"mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 8: 8c00004000010090",
       EventKind::kProcessor, Severity::kError, "cpu3"},
      {"mce: [Hardware Error]: CPU 3: Machine Check Exception: 5 Bank 8: be00", EventKind::kProcessor,
       Severity::kCritical, "cpu3"},
      {"mce: [Hardware Error]: Machine check: Processor context corrupt", EventKind::kProcessor,
       Severity::kFatal, ""},
      {"{12}[Hardware Error]: event severity: corrected", EventKind::kProcessor, Severity::kWarning, ""},
      {"pcieport 0000:3a:00.0: AER: Corrected error received: 0000:3b:00.0", EventKind::kBus,
       Severity::kWarning, "0000:3b:00.0"},
      {"pcieport 0000:3a:00.0: AER: Uncorrectable (Fatal) error message received from 0000:3b:00.0",
       EventKind::kBus, Severity::kCritical, "0000:3b:00.0"},
      {"I/O error, dev nvme0n1, sector 123456 op 0x0:(READ) flags 0x80700", EventKind::kDisk,
       Severity::kError, "nvme0n1"},
      {"blk_update_request: critical medium error, dev sda, sector 7 op 0x0:(READ)", EventKind::kDisk,
       Severity::kError, "sda"},
      {"nvme nvme0: I/O 37 QID 4 timeout, aborting", EventKind::kDisk, Severity::kError, "nvme0"},
      {"nvme nvme0: controller is down; will reset: CSTS=0xffffffff", EventKind::kDisk,
       Severity::kCritical, "nvme0"},
      {"ata1.00: failed command: READ FPDMA QUEUED", EventKind::kDisk, Severity::kError, "ata1.00"},
      {"EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2", EventKind::kDisk,
       Severity::kError, "sda1"},
      {"XFS (dm-2): metadata I/O error in \"xfs_trans_read\"", EventKind::kDisk, Severity::kError, "dm-2"},
      {"NVRM: Xid (PCI:0000:86:00): 79, pid='<unknown>', GPU has fallen off the bus.",
       EventKind::kProcessor, Severity::kCritical, "0000:86:00"},
      {"CPU12: Core temperature above threshold, cpu clock throttled (total events = 812)",
       EventKind::kTemperature, Severity::kWarning, "cpu12"},
      {"watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [a.out:99]", EventKind::kProcessor,
       Severity::kError, "cpu3"},
      {"mlx5_core 0000:3b:00.0: Port module event[error]: module 0, Cable error", EventKind::kNetwork,
       Severity::kError, "0000:3b:00.0"},
      {"Memory failure: 0x1f4a2b: recovery action for dirty LRU page: Recovered",
       EventKind::kUncorrectedMemory, Severity::kCritical, ""},
      {"Out of memory: Killed process 77 (hog) total-vm:1kB", EventKind::kPressure, Severity::kError,
       "memory"},
  };
  for (const Case& c : cases) {
    const Event event = classified(c.text);
    EXPECT_EQ(to_string(event.kind), to_string(c.kind)) << c.text;
    EXPECT_EQ(to_string(event.severity), to_string(c.severity)) << c.text;
    EXPECT_EQ(event.location, c.location) << c.text;
  }
}

TEST(KernelText, LeavesEverythingElseAMessage) {
  for (const char* text :
       {"EDAC MC0: Giving out device to module skx_edac", "EDAC MC: Ver: 3.0.0", "EDAC MC0: 0 CE x",
        "mce: [Hardware Error]: Machine check events logged", "I/O error, dev fd0, sector 0",
        "NVRM: Xid (PCI:0000:86:00): 31, pid=1, a program's own fault", "NVRM: Xid (PCI:",
        "a.out[7]: segfault EDAC MC0: 1 UE error", "CPU12: Core temperature/speed normal",
        "Memory cgroup out of memory: Killed process 7 (hog)", "mce: [Hardware Error]: ", "{",
        "EXT4-fs (sda1): mounted filesystem", "AER: received", "nvme nvme0: 8/0/0 default/read/poll"}) {
    EXPECT_EQ(to_string(classified(text).kind), "message") << text;
  }
}

}  // namespace
}  // namespace lifeboat::predictor
