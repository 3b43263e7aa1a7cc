#include "predictor/event.hpp"

#include <array>

#include "base/json.hpp"
#include "predictor/enum_text.hpp"

namespace lifeboat::predictor {
namespace {

constexpr std::array<std::string_view, 14> kKinds{
    "message",  "corrected-memory", "uncorrected-memory", "processor", "bus",
    "disk",     "network",          "temperature",        "power",     "pressure",
    "check",    "heartbeat-lost",   "down",               "repaired"};
constexpr std::array<std::string_view, 7> kSeverities{"debug", "info",     "notice", "warning",
                                                      "error", "critical", "fatal"};

}  // namespace

std::string_view to_string(EventKind kind) { return kKinds.at(static_cast<std::size_t>(kind)); }

std::string_view to_string(Severity severity) {
  return kSeverities.at(static_cast<std::size_t>(severity));
}

Result<EventKind> event_kind_from(std::string_view text) {
  return enum_from<EventKind>(kKinds, "kind of event", text);
}

Result<Severity> severity_from(std::string_view text) {
  return enum_from<Severity>(kSeverities, "severity", text);
}

std::string_view detail(const Event& event, std::string_view name) {
  for (const auto& [key, value] : event.details) {
    if (key == name) return value;
  }
  return {};
}

std::string to_replay_line(const Event& event) {
  json::object out{{"t", event.time.time_since_epoch().count()}, {"node", event.node}};
  if (!event.location.empty()) out["location"] = event.location;
  if (!event.source.empty()) out["source"] = event.source;
  const std::string_view kind = to_string(event.kind);
  const std::string_view severity = to_string(event.severity);
  out["kind"] = json::string_view(kind.data(), kind.size());
  out["severity"] = json::string_view(severity.data(), severity.size());
  if (event.count != 1) out["count"] = event.count;
  if (!event.text.empty()) out["text"] = event.text;
  if (!event.details.empty()) {
    json::object details;
    for (const auto& [key, value] : event.details) details[key] = value;
    out["details"] = std::move(details);
  }
  return json::serialize(out) + "\n";
}

Result<Event> parse_replay_line(std::string_view line) {
  auto parsed = parse_object(line);
  if (!parsed) return fail(Errc::kInvalid, parsed.error().message);
  const json::object& object = *parsed;
  Event event;
  const json::value* time = object.if_contains("t");
  if (time == nullptr || !time->is_int64()) {
    return fail(Errc::kInvalid, "member 't' is missing or no number of microseconds");
  }
  event.time = Time(Duration(time->get_int64()));
  TRY(event.node, get_string(object, "node"));
  event.location = string_or(object, "location");
  event.source = string_or(object, "source");
  TRY(event.kind, event_kind_from(string_or(object, "kind", "message")));
  TRY(event.severity, severity_from(string_or(object, "severity", "info")));
  if (object.contains("count")) {
    TRY(event.count, get_u64(object, "count"));
  }
  event.text = string_or(object, "text").substr(0, kTextMax);
  if (const json::value* details = object.if_contains("details");
      details != nullptr && details->is_object()) {
    for (const auto& item : details->get_object()) {
      if (!item.value().is_string()) continue;
      event.details.emplace_back(std::string(item.key()), std::string(item.value().get_string()));
    }
  }
  return event;
}

}  // namespace lifeboat::predictor
