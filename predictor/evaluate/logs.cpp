// Free text: loghub's form of BG/L and Thunderbird, /dev/kmsg and syslog.
#include <algorithm>
#include <array>

#include "predictor/evaluate/csv.hpp"
#include "predictor/evaluate/failures.hpp"
#include "predictor/evaluate/readers.hpp"
#include "predictor/sources/kernel_text.hpp"
#include "predictor/sources/kmsg.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {
namespace {

// The first word; `text` goes on after the spaces behind it.
std::string_view take_word(std::string_view& text) {
  const std::size_t end = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return word;
}

constexpr std::array<std::string_view, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

// What a line of syslog says, after its date and host: the kernel's own words as its log has them.
void set_syslog_text(Event& event, std::string_view said) {
  constexpr std::string_view kKernel = "kernel: ";
  const bool kernel = said.starts_with(kKernel);
  if (kernel) said.remove_prefix(kKernel.size());
  event.text = clean(said);
  if (kernel) classify_kernel_text(event);
}

// ---- BG/L, Thunderbird --------------------------------------------------------------------------

Severity bgl_severity(std::string_view word) {
  if (word == "WARNING") return Severity::kWarning;
  if (word == "ERROR") return Severity::kError;
  if (word == "SEVERE") return Severity::kCritical;
  if (word == "FATAL" || word == "FAILURE") return Severity::kFatal;
  return Severity::kInfo;
}

class BglReader : public Reader {
 public:
  bool line(std::string_view line) override {
    const std::string_view tag = take_word(line);
    const auto time = to_integer(take_word(line));
    const std::string_view date = take_word(line);
    const std::string_view place = take_word(line);
    if (!time || tag.empty() || place.empty() || date.size() != 10) return false;
    Event event;
    event.time = Time(std::chrono::seconds(*time));
    if (beyond(event.time)) return true;
    event.location = clean(place.substr(0, 128));
    // "R02-M1-N0-C:J12-U11" is a chip of the node card R02-M1-N0.
    const std::size_t card =
        place.size() > 9 && place[0] == 'R' && place[7] == 'N' ? 9 : place.size();
    event.node = clean(place.substr(0, std::min<std::size_t>(card, 128)));
    event.source = "bgl";
    (void)take_word(line);  // the date again, or the month of syslog's
    (void)take_word(line);  // the place again, or the day
    std::string_view rest = line;
    if (take_word(rest) == "RAS") {
      const std::string component(take_word(rest));
      event.severity = bgl_severity(take_word(rest));
      event.text = clean(component + " " + std::string(rest));
    } else {
      event.severity = tag == "-" ? Severity::kInfo : Severity::kError;
      // Thunderbird's lines go on with "12:34:56 host/host program: text".
      (void)take_word(line);
      (void)take_word(line);
      set_syslog_text(event, line);
    }
    if (tag != "-") failures_.add({event.time, event.time, event});
    events_.push_back(std::move(event));
    return true;
  }

  void finish(std::vector<Event>& events) override {
    // The failure before its message: the message is what foretells the next one.
    failures_.append_to(events);
    events.insert(events.end(), events_.begin(), events_.end());
  }

 private:
  std::vector<Event> events_;
  Failures failures_;
};

// ---- /dev/kmsg, syslog --------------------------------------------------------------------------

class KmsgReader : public Reader {
 public:
  bool line(std::string_view line) override {
    if (line.starts_with(' ')) return true;  // a record's dictionary
    Event event;
    event.source = "kmsg";
    if (!record(line, event) && !syslog(line, event)) return false;
    if (beyond(event.time)) return true;
    const bool panic = event.text.find("Kernel panic") != std::string::npos;
    const bool boot = event.text.find("Linux version ") != std::string::npos;
    if (boot) push_as(EventKind::kRepaired, event);
    push_as(event.kind, event);
    if (panic) push_as(EventKind::kDown, event);
    return true;
  }

  void finish(std::vector<Event>& events) override {
    events.insert(events.end(), events_.begin(), events_.end());
  }

 private:
  // Of one boot, and of all boots together: a longer one is no time, and must not overflow.
  static constexpr std::uint64_t kClockMax = 3'200'000'000'000'000;  // microseconds: a century

  void push_as(EventKind kind, const Event& event) {
    events_.push_back(event);
    events_.back().kind = kind;
  }

  // The records say when since the boot, not when that was: the first boot of a log is at time 0,
  // and the next, known by a sequence number that goes back, follows the last record of the one
  // before.
  bool record(std::string_view line, Event& event) {
    const auto record = parse_kmsg_record(line);
    if (!record) return false;
    if (record->since_boot_us > kClockMax || boot_ > Duration(kClockMax)) return false;
    const Duration clock(static_cast<Duration::rep>(record->since_boot_us));
    if (record->sequence < sequence_) boot_ += clock_;
    sequence_ = record->sequence;
    clock_ = clock;
    event.time = Time(boot_ + clock);
    event.node = "node";
    event.severity = severity_of_priority(record->priority);
    event.text = clean(record->text);
    if (record->facility == 0) classify_kernel_text(event);
    return true;
  }

  // "Jun 14 15:16:01 host program[pid]: text", without a year: one begins when the month goes back.
  bool syslog(std::string_view line, Event& event) {
    const auto month = std::find(kMonths.begin(), kMonths.end(), take_word(line));
    const auto day = to_integer(take_word(line));
    const std::string_view clock = take_word(line);
    const std::string_view host = take_word(line);
    if (month == kMonths.end() || !day || *day < 1 || *day > 31 || clock.size() != 8 ||
        host.empty()) {
      return false;
    }
    const auto hours = to_integer(clock.substr(0, 2));
    const auto minutes = to_integer(clock.substr(3, 2));
    const auto seconds = to_integer(clock.substr(6, 2));
    if (!hours || !minutes || !seconds) return false;
    const auto number = static_cast<unsigned>(month - kMonths.begin()) + 1;
    if (number < month_) ++year_;
    month_ = number;
    const std::chrono::sys_days date{std::chrono::year(year_) / std::chrono::month(number) /
                                     std::chrono::day(static_cast<unsigned>(*day))};
    event.time = Time(date) + std::chrono::hours(*hours) + std::chrono::minutes(*minutes) +
                 std::chrono::seconds(*seconds);
    event.node = clean(host.substr(0, 128));
    set_syslog_text(event, line);
    return true;
  }

  std::vector<Event> events_;
  Duration boot_{};
  Duration clock_{};
  std::uint64_t sequence_ = 0;
  int year_ = 2001;  // the first of the log: any will do
  unsigned month_ = 1;
};

}  // namespace

std::unique_ptr<Reader> make_bgl_reader() { return std::make_unique<BglReader>(); }
std::unique_ptr<Reader> make_kmsg_reader() { return std::make_unique<KmsgReader>(); }

}  // namespace lifeboat::predictor
