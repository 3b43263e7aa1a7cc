// kmsg.hpp - the kernel's log, from /dev/kmsg: one record a read, "prefix,seq,usec,flag;text", then
// lines " KEY=value" (Documentation/ABI/testing/dev-kmsg).
//
// The first poll reads what the ring still holds, so that a fresh daemon knows this boot; later
// ones what came since, also after a restart, by the records' numbers within the same boot. Records
// that were overwritten before they were read are counted in a message. Only the kernel's own
// records (facility 0) count, as any root process may write others; a switch lets those of user
// space in, for tests and drills, which cannot write facility 0.
#pragma once

#include <chrono>
#include <optional>

#include "base/fd.hpp"
#include "predictor/source.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

struct KmsgRecord {
  unsigned facility = 0;  // 0: the kernel
  unsigned priority = 6;  // syslog's
  std::uint64_t sequence = 0;
  std::uint64_t since_boot_us = 0;
  bool continues = false;  // the record before it
  std::string text;        // as it was written: \xNN undone
  std::vector<std::pair<std::string, std::string>> values;  // SUBSYSTEM, DEVICE
};

// kProtocol: it is no record.
Result<KmsgRecord> parse_kmsg_record(std::string_view record);

struct KmsgOptions {
  std::chrono::milliseconds interval{500};
  bool user_records = false;
  std::string file = "/dev/kmsg";  // below the root; a FIFO or a file of records will do
};

class KmsgSource final : public Source {
 public:
  KmsgSource(Place place, KmsgOptions options);

  [[nodiscard]] std::string name() const override { return "kmsg"; }
  Result<std::vector<Event>> poll(Time now) override;
  [[nodiscard]] Duration interval() const override { return options_.interval; }
  [[nodiscard]] std::string save() const override;
  void restore(const std::string& saved) override;

 private:
  Status open();
  Status read_records(std::vector<std::string>& records);
  Status read_device(std::vector<std::string>& records);
  Status find_boot_time(Time now);
  void take(const KmsgRecord& record, Time now, std::vector<Event>& events);

  Place place_;
  KmsgOptions options_;
  Fd fd_;
  bool is_device_ = false;
  LineBuffer lines_;                       // of what is not the device
  std::optional<std::uint64_t> sequence_;  // of the last record that was read
  Time boot_time_{};
  bool last_was_ours_ = false;
};

}  // namespace lifeboat::predictor
