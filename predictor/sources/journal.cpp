#include "predictor/sources/journal.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "predictor/sources/kernel_text.hpp"

namespace lifeboat::predictor {
namespace {

// A string, or the bytes of one that is not UTF-8.
std::string text_of(const json::value* value) {
  if (value == nullptr) return {};
  if (value->is_string()) return std::string(value->get_string());
  std::string text;
  if (!value->is_array()) return text;
  for (const json::value& item : value->get_array()) {
    if (!item.is_int64()) return {};
    text += static_cast<char>(item.get_int64());
  }
  return text;
}

}  // namespace

Result<JournalEntry> parse_journal_entry(std::string_view line, const Place& place, bool kernel) {
  auto parsed = parse_object(line);
  if (!parsed) return fail(Errc::kProtocol, parsed.error().message);
  const json::object& entry = *parsed;
  const auto time = whole_number(string_or(entry, "__REALTIME_TIMESTAMP"));
  if (!time || *time > static_cast<std::uint64_t>(Duration::max().count())) {
    return fail(Errc::kProtocol, "an entry without its time");
  }
  JournalEntry out;
  out.cursor = string_or(entry, "__CURSOR");
  const bool is_kernel = string_or(entry, "_TRANSPORT") == "kernel";
  const std::string message = text_of(entry.if_contains("MESSAGE"));
  if (message.empty() || (is_kernel && !kernel)) return out;
  Event event;
  event.time = Time(Duration(static_cast<Duration::rep>(*time)));
  event.node = place.node;
  event.source = "journal";
  const auto priority = whole_number(string_or(entry, "PRIORITY"));
  event.severity = severity_of_priority(priority ? static_cast<unsigned>(*priority & 7) : 6);
  const std::string who = string_or(entry, "SYSLOG_IDENTIFIER");
  // What Lifeboat says of a trouble is no trouble of its own.
  if (who == "lifeboatd" || who == "lifeboat-pager") return out;
  event.text = clean(is_kernel || who.empty() ? message : who + ": " + message);
  if (!who.empty()) event.details.emplace_back("program", clean(who));
  if (is_kernel) classify_kernel_text(event);
  out.event = std::move(event);
  return out;
}

Status JournalSource::start() {
  Program::Options options;
  options.argv = {options_.program, "--output=json", "--follow", "--no-pager",
                  "--priority=" + options_.priority};
  if (!place_.root.empty()) options.argv.push_back("--root=" + place_.root);
  options.argv.push_back(cursor_.empty() ? "--lines=0" : "--after-cursor=" + cursor_);
  if (!cursor_.empty()) options.argv.emplace_back("--lines=all");
  options.limit = std::chrono::milliseconds(0);
  lines_ = LineBuffer();
  return program_.start(options);
}

Result<std::vector<Event>> JournalSource::poll(Time now) {
  if (!program_.running()) CHECK_OK(start());
  lines_.add(program_.take());
  std::string problem;
  if (const auto ended = program_.poll()) {
    if (*ended) lines_.add((*ended)->text);
    const int code = *ended ? (*ended)->exit_code : 0;
    problem = options_.program + " ended with " + std::to_string(code);
    // A cursor that the journal does not know any more would end it each time.
    if (code != 0) cursor_.clear();
  }
  std::vector<Event> events;
  if (lines_.take_dropped() > 0) problem = "an entry that is too long";
  for (const std::string& line : lines_.take()) {
    auto entry = parse_journal_entry(line, place_, options_.kernel);
    if (!entry) {
      problem = entry.error().message + ": " + clean(line.substr(0, 80));
      continue;
    }
    if (!entry->cursor.empty()) cursor_ = entry->cursor;
    if (!entry->event) continue;
    entry->event->time = std::min(entry->event->time, now);
    events.push_back(*std::move(entry->event));
  }
  if (!problem.empty() && events.empty()) return fail(Errc::kProtocol, "journal: " + problem);
  return events;
}

}  // namespace lifeboat::predictor
