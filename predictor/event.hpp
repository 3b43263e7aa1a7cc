// event.hpp - one thing that was noticed about a node: what sources make, filters thin out and models
// learn from.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace lifeboat::predictor {

// Wall-clock time; microseconds since 1970.
using Time = std::chrono::sys_time<std::chrono::microseconds>;
using Duration = std::chrono::microseconds;

// How bad the source itself says it is.
enum class Severity : std::uint8_t { kDebug, kInfo, kNotice, kWarning, kError, kCritical, kFatal };

enum class EventKind : std::uint8_t {
  kMessage,            // a text; its template says what it is
  kCorrectedMemory,    // corrected memory errors: `count` of them
  kUncorrectedMemory,  // memory errors that nothing could correct
  kProcessor,          // machine checks of processors, caches, buses
  kBus,                // PCIe (AER)
  kDisk,               // SMART, NVMe, I/O errors
  kNetwork,            // error counters that grew, carrier lost
  kTemperature,        // beyond a threshold, or throttled
  kPower,              // supplies, voltage, fans
  kPressure,           // PSI: tasks wait for memory, I/O or processors
  kCheck,              // an operator's or a site script's word
  kHeartbeatLost,      // nothing is heard from the node any more
  kDown,               // it failed: what models predict
  kRepaired,           // it is back in service
};

// Text forms: "message", "corrected-memory", ...; "debug", "info", ...
[[nodiscard]] std::string_view to_string(EventKind kind);
[[nodiscard]] std::string_view to_string(Severity severity);
// kInvalid naming what there is.
Result<EventKind> event_kind_from(std::string_view text);
Result<Severity> severity_from(std::string_view text);

struct Event {
  Time time{};
  std::string node;      // or whatever unit fails as a whole (a node board)
  std::string location;  // the part of it: "mc0/dimm3", "cpu12", "sda", "0000:3b:00.0"; may be empty
  std::string source;    // "kmsg", "edac", "smart", ...
  EventKind kind = EventKind::kMessage;
  Severity severity = Severity::kInfo;
  std::uint64_t count = 1;
  std::string text;  // as it was said; at most kTextMax bytes
  // What rules may ask for by name: "row", "bank", "column", "page", "template", ...
  std::vector<std::pair<std::string, std::string>> details;

  bool operator==(const Event&) const = default;
};

inline constexpr std::size_t kTextMax = 1024;

// The value of a detail; empty when there is none of that name.
[[nodiscard]] std::string_view detail(const Event& event, std::string_view name);

// One line of a replay file, with its newline: a JSON object
//   {"t":1700000000123456,"node":"n1","location":"mc0/dimm3","source":"edac","kind":"corrected-memory",
//    "severity":"warning","count":2,"text":"...","details":{"row":"17"}}
// `t` in microseconds since 1970. Members that have their default may be missing.
[[nodiscard]] std::string to_replay_line(const Event& event);
// kInvalid saying what is wrong; unknown members are ignored.
Result<Event> parse_replay_line(std::string_view line);

}  // namespace lifeboat::predictor
