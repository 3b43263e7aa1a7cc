#include "predictor/sources/ipmi.hpp"

#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "base/json.hpp"

namespace lifeboat::predictor {
namespace {

constexpr std::size_t kEntriesMax = 65536;

// FNV-1a (Fowler, Noll, Vo 1991): the same on every machine, unlike std::hash.
std::uint64_t hash(std::string_view text) {
  std::uint64_t value = 0xcbf29ce484222325;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return value;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

bool is_hexadecimal(std::string_view text) {
  return !text.empty() && text.size() <= 8 &&
         text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

// "10/02/2025", "22:07:09 UTC"; ipmitool runs with TZ=UTC.
std::optional<Time> sel_time(std::string_view date, std::string_view clock) {
  const std::string text = std::string(date) + " " + std::string(clock.substr(0, 8));
  tm parts{};
  const char* end = ::strptime(text.c_str(), "%m/%d/%Y %H:%M:%S", &parts);
  if (end == nullptr || *end != '\0') return std::nullopt;
  return Time(std::chrono::seconds(::timegm(&parts)));
}

EventKind kind_of(const std::string& sensor, const std::string& said) {
  if (has(said, "uncorrectable ecc") || has(said, "uncorrectable memory")) {
    return EventKind::kUncorrectedMemory;
  }
  if (has(said, "correctable ecc") || has(said, "correctable memory")) {
    return EventKind::kCorrectedMemory;
  }
  if (has(sensor, "temp")) return EventKind::kTemperature;
  if (has(sensor, "power") || has(sensor, "voltage") || has(sensor, "fan") || has(sensor, "psu")) {
    return EventKind::kPower;
  }
  if (has(sensor, "processor") || has(said, "ierr") || has(said, "machine check")) {
    return EventKind::kProcessor;
  }
  if (has(sensor, "critical interrupt") || has(sensor, "pci")) return EventKind::kBus;
  if (has(sensor, "drive")) return EventKind::kDisk;
  return EventKind::kMessage;
}

// What such an entry is worth where the entry does not say.
Severity severity_of(EventKind kind, const std::string& said) {
  if (has(said, "non-recoverable")) return Severity::kFatal;
  if (has(said, "non-critical")) return Severity::kWarning;
  if (has(said, "critical") || has(said, "uncorrectable") || has(said, "ierr") ||
      has(said, "thermal trip")) {
    return Severity::kCritical;
  }
  if (has(said, "fail") || has(said, "lost") || has(said, "fault")) return Severity::kError;
  if (kind == EventKind::kMessage) return Severity::kInfo;
  // Entries that only report a state ("Presence detected", "Fully Redundant") are no trouble.
  if (has(said, "presence") || has(said, "fully redundant") || has(said, "transition to ok")) {
    return Severity::kInfo;
  }
  return Severity::kWarning;
}

}  // namespace

std::optional<Event> parse_sel_line(std::string_view line, Time now) {
  std::vector<std::string_view> fields;
  for (const std::string_view field : split(line, '|')) fields.push_back(trimmed(field));
  if (fields.size() < 4 || !is_hexadecimal(fields[0])) return std::nullopt;
  Event event;
  std::size_t sensor_at = 3;
  if (fields[1].starts_with("Pre-Init")) {
    event.time = now;
    // Some versions have the controller's own seconds in a column, some have none.
    if (!whole_number(fields[2])) sensor_at = 2;
  } else {
    const auto time = sel_time(fields[1], fields[2]);
    if (!time) return std::nullopt;
    event.time = std::min(*time, now);
  }
  if (fields.size() <= sensor_at + 1) return std::nullopt;
  const std::string_view sensor = fields[sensor_at];
  const std::string said = lower(fields[sensor_at + 1]);
  const bool over = fields.size() > sensor_at + 2 && fields[sensor_at + 2] == "Deasserted";
  event.location = clean(sensor.substr(0, 64));
  event.text = std::string(sensor);
  for (std::size_t i = sensor_at + 1; i < fields.size(); ++i) {
    event.text += " | " + std::string(fields[i]);
  }
  event.text = clean(event.text);
  if (over) return event;
  event.kind = kind_of(lower(sensor), said);
  event.severity = severity_of(event.kind, said);
  return event;
}

Duration IpmiSource::interval() const {
  constexpr std::chrono::milliseconds kWhileRunning{200};
  return program_.running() ? kWhileRunning : options_.interval;
}

Result<std::vector<Event>> IpmiSource::judge(const Program::Output& output, Time now) {
  if (output.exit_code != 0 || output.cut) {
    return fail(Errc::kSystem, options_.program + " ended with " +
                                   std::to_string(output.exit_code) +
                                   (output.cut ? " and said too much" : ""));
  }
  std::vector<Event> events;
  std::set<std::uint64_t> seen;
  std::size_t bad = 0;
  for (const std::string_view line : split(output.text, '\n')) {
    if (trimmed(line).empty() || seen.size() == kEntriesMax) continue;
    auto event = parse_sel_line(line, now);
    if (!event) {
      ++bad;
      continue;
    }
    const std::uint64_t id = hash(trimmed(line));
    if (!seen.insert(id).second || !known_ || known_->contains(id)) continue;
    event->node = place_.node;
    event->source = name();
    events.push_back(*std::move(event));
  }
  // Not a log at all: what was known stays known.
  if (seen.empty() && bad > 0) {
    return fail(Errc::kProtocol, options_.program + ": " + std::to_string(bad) +
                                     " lines that are no entries");
  }
  known_ = std::move(seen);
  return events;
}

Result<std::vector<Event>> IpmiSource::poll(Time now) {
  if (program_.running()) {
    auto ended = program_.poll();
    if (!ended) return std::vector<Event>{};
    if (!*ended) return tl::unexpected<Error>(ended->error());
    return judge(**ended, now);
  }
  const std::string device = place_.path("/dev/ipmi0");
  if (::access(device.c_str(), F_OK) != 0) return fail(Errc::kNotFound, "there is no " + device);
  Program::Options options;
  options.argv = {options_.program, "sel", "elist"};
  options.limit = options_.limit;
  options.output_max = 16 << 20;
  CHECK_OK(program_.start(options));
  return std::vector<Event>{};
}

std::string IpmiSource::save() const {
  if (!known_) return {};
  json::array list;
  for (const std::uint64_t id : *known_) list.emplace_back(id);
  return json::serialize(json::object{{"known", std::move(list)}});
}

void IpmiSource::restore(const std::string& saved) {
  const auto object = parse_object(saved);
  if (!object) return;
  const auto list = get_array(*object, "known");
  if (!list) return;
  known_.emplace();
  for (const json::value& item : **list) {
    boost::system::error_code error;
    const auto id = item.to_number<std::uint64_t>(error);
    if (!error) known_->insert(id);
  }
}

}  // namespace lifeboat::predictor
