// journal.hpp - what services say, from systemd's journal: `journalctl -o json -f` runs beside us
// and is started again after its end, behind the last entry that was read.
//
// The kernel's own entries are left out by default: the kmsg source has them, sooner. Entries of
// services stay messages whatever they say: anybody may write them.
#pragma once

#include <chrono>
#include <optional>

#include "predictor/source.hpp"
#include "predictor/sources/program.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

struct JournalOptions {
  std::chrono::milliseconds interval{2'000};
  std::string program = "journalctl";
  std::string priority = "notice";  // and worse; syslog's names
  bool kernel = false;              // the kernel's entries, too: for a node without /dev/kmsg
};

// One entry of `journalctl -o json`; nothing for an entry without a message, or the kernel's when
// it is not wanted. kProtocol: not an entry.
struct JournalEntry {
  std::string cursor;
  std::optional<Event> event;
};
Result<JournalEntry> parse_journal_entry(std::string_view line, const Place& place, bool kernel);

class JournalSource final : public Source {
 public:
  JournalSource(Place place, JournalOptions options)
      : place_(std::move(place)), options_(std::move(options)) {}

  [[nodiscard]] std::string name() const override { return "journal"; }
  Result<std::vector<Event>> poll(Time now) override;
  [[nodiscard]] Duration interval() const override { return options_.interval; }
  [[nodiscard]] std::string save() const override { return cursor_; }
  void restore(const std::string& saved) override { cursor_ = saved; }

 private:
  Status start();

  Place place_;
  JournalOptions options_;
  Program program_;
  LineBuffer lines_;
  std::string cursor_;
};

}  // namespace lifeboat::predictor
