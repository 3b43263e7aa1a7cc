// What programs and services say of a node's health: journal entries, smartctl, nvme, ipmitool,
// times of rasdaemon, pressure; and the helpers that all of them use.
#include "fuzz.hpp"
#include "predictor/sources/disk_health.hpp"
#include "predictor/sources/ipmi.hpp"
#include "predictor/sources/journal.hpp"
#include "predictor/sources/pressure.hpp"
#include "predictor/sources/rasdaemon.hpp"

namespace {

using namespace lifeboat;
using namespace lifeboat::predictor;

void require_event(const Event& event) {
  fuzz::require(event.text.size() <= kTextMax, "a text is within its limit");
  const auto again = parse_replay_line(to_replay_line(event));
  fuzz::require(again.has_value(), "an event comes back from its line");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text = fuzz::text(data + 1, size - 1);
  const Time now{std::chrono::seconds(1'700'000'000)};
  switch (data[0] % 6) {
    case 0: {
      const auto entry = parse_journal_entry(text, Place{"", "n1"}, true);
      fuzz::require_good(entry);
      if (entry && entry->event) require_event(*entry->event);
      return 0;
    }
    case 1:
      fuzz::require_good(parse_smartctl(text));
      return 0;
    case 2:
      fuzz::require_good(parse_nvme_smart_log(text));
      return 0;
    case 3:
      if (const auto event = parse_sel_line(text, now)) require_event(*event);
      return 0;
    case 4:
      (void)rasdaemon_time(text);
      if (const auto share = pressure_share(text, "some")) {
        fuzz::require(*share >= 0 && *share <= 100, "a share is one");
      }
      return 0;
    default: {
      fuzz::require(clean(text).size() <= kTextMax, "a text is within its limit");
      // However the bytes come, the lines are the same.
      LineBuffer whole, parts;
      whole.add(text);
      for (std::size_t at = 0; at < text.size(); at += 3) parts.add(text.substr(at, 3));
      fuzz::require(whole.take() == parts.take() && whole.take_dropped() == parts.take_dropped(),
                    "lines do not depend on how their bytes arrive");
      return 0;
    }
  }
}
