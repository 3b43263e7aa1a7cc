// Free text: loghub's form of BG/L and Thunderbird, /dev/kmsg and syslog.
#include <algorithm>
#include <array>

#include "predictor/evaluate/csv.hpp"
#include "predictor/evaluate/failures.hpp"
#include "predictor/evaluate/readers.hpp"

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

// The first word; `text` goes on after the spaces behind it.
std::string_view take_word(std::string_view& text) {
  const std::size_t end = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return word;
}

// ---- BG/L, Thunderbird ---------------------------------------------------------------------------

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
    event.location = std::string(place.substr(0, 128));
    // "R02-M1-N0-C:J12-U11" is a chip of the node card R02-M1-N0.
    const std::size_t card = place.size() > 9 && place[0] == 'R' && place[7] == 'N' ? 9 : place.size();
    event.node = std::string(place.substr(0, std::min<std::size_t>(card, 128)));
    event.source = "bgl";
    (void)take_word(line);  // the date again
    (void)take_word(line);  // the place again
    std::string_view rest = line;
    if (take_word(rest) == "RAS") {
      const std::string component(take_word(rest));
      event.severity = bgl_severity(take_word(rest));
      event.text = component + " " + std::string(rest);
    } else {
      event.severity = tag == "-" ? Severity::kInfo : Severity::kError;
      event.text = std::string(line);
    }
    event.text.resize(std::min(event.text.size(), kTextMax));
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

// ---- /dev/kmsg, syslog ---------------------------------------------------------------------------

constexpr std::array<std::string_view, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

Severity kernel_severity(std::int64_t level) {
  constexpr std::array<Severity, 8> kLevels{
      Severity::kFatal,   Severity::kFatal,  Severity::kCritical, Severity::kError,
      Severity::kWarning, Severity::kNotice, Severity::kInfo,     Severity::kDebug};
  return kLevels[static_cast<std::size_t>(level & 7)];
}

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
    if (boot) push(event, EventKind::kRepaired);
    push(event, EventKind::kMessage);
    if (panic) push(event, EventKind::kDown);
    return true;
  }

  void finish(std::vector<Event>& events) override {
    events.insert(events.end(), events_.begin(), events_.end());
  }

 private:
  void push(const Event& event, EventKind kind) {
    events_.push_back(event);
    events_.back().kind = kind;
  }

  // "prio,seq,microseconds since boot,flags;text". A clock that goes back is another boot.
  bool record(std::string_view line, Event& event) {
    const std::size_t text = line.find(';');
    if (text == std::string_view::npos) return false;
    std::vector<std::string_view> fields;
    split_fields(line.substr(0, text), ',', fields);
    if (fields.size() < 4) return false;
    const auto priority = to_integer(fields[0]);
    const auto clock = to_integer(fields[2]);
    if (!priority || !clock) return false;
    if (*clock < clock_) boot_ += Duration(clock_);
    clock_ = *clock;
    event.time = Time(boot_ + Duration(*clock));
    event.node = "node";
    event.severity = kernel_severity(*priority);
    event.text = std::string(line.substr(text + 1, kTextMax));
    return true;
  }

  // "Jun 14 15:16:01 host program[pid]: text", without a year: one begins when the month goes back.
  bool syslog(std::string_view line, Event& event) {
    const auto month = std::find(kMonths.begin(), kMonths.end(), take_word(line));
    const auto day = to_integer(take_word(line));
    const std::string_view clock = take_word(line);
    const std::string_view host = take_word(line);
    if (month == kMonths.end() || !day || clock.size() != 8 || host.empty()) return false;
    const auto number = static_cast<unsigned>(month - kMonths.begin()) + 1;
    if (number < month_) ++year_;
    month_ = number;
    const auto hours = to_integer(clock.substr(0, 2));
    const auto minutes = to_integer(clock.substr(3, 2));
    const auto seconds = to_integer(clock.substr(6, 2));
    if (!hours || !minutes || !seconds) return false;
    const std::chrono::sys_days date{std::chrono::year(year_) / std::chrono::month(number) /
                                     std::chrono::day(static_cast<unsigned>(*day))};
    event.time = Time(date) + std::chrono::hours(*hours) + std::chrono::minutes(*minutes) +
                 std::chrono::seconds(*seconds);
    event.node = std::string(host.substr(0, 128));
    event.text = std::string(line.substr(0, kTextMax));
    return true;
  }

  std::vector<Event> events_;
  Duration boot_{};
  std::int64_t clock_ = 0;
  int year_ = 2001;  // the first of the log: any will do
  unsigned month_ = 1;
};

}  // namespace

std::unique_ptr<Reader> make_bgl_reader() { return std::make_unique<BglReader>(); }
std::unique_ptr<Reader> make_kmsg_reader() { return std::make_unique<KmsgReader>(); }

}  // namespace lifeboat::predictor
