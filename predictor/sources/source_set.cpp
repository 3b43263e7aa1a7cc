#include "predictor/sources/source_set.hpp"

#include <algorithm>
#include <iterator>

#include "base/json.hpp"

namespace lifeboat::predictor {

SourceSet::SourceSet(std::vector<std::unique_ptr<Source>> sources) {
  for (auto& source : sources) {
    Entry entry;
    entry.source = std::move(source);
    entries_.push_back(std::move(entry));
  }
}

// A clock that was set back would leave a source unasked for as long.
bool SourceSet::is_due(const Entry& entry, Time now) {
  return now >= entry.next || entry.next - now > entry.wait;
}

void SourceSet::note(Entry& entry, Notice::What what, const std::string& text, Time now,
                     Polled& out) {
  const auto quiet = [&](Time when) { return std::chrono::abs(now - when) < kSilence; };
  std::erase_if(entry.said, [&](const auto& item) { return !quiet(item.second); });
  if (entry.said.size() >= kSaidMax || !entry.said.try_emplace(text, now).second) return;
  out.notices.push_back({entry.source->name(), what, text});
}

void SourceSet::ask(Entry& entry, Time now, Polled& out) {
  auto events = entry.source->poll(now);
  const bool missing = !events && events.error().code == Errc::kNotFound;
  entry.wait = missing ? kMissingInterval : entry.source->interval();
  entry.next = now + entry.wait;
  if (!events) {
    if (entry.problem != events.error().message) {
      entry.problem = events.error().message;
      note(entry, missing ? Notice::What::kMissing : Notice::What::kFailing, entry.problem, now,
           out);
    }
    return;
  }
  if (!entry.problem.empty()) {
    entry.problem.clear();
    note(entry, Notice::What::kWorksAgain, "", now, out);
  }
  std::move(events->begin(), events->end(), std::back_inserter(out.events));
}

SourceSet::Polled SourceSet::poll(Time now) {
  Polled out;
  for (Entry& entry : entries_) {
    if (is_due(entry, now)) ask(entry, now, out);
  }
  std::stable_sort(out.events.begin(), out.events.end(),
                   [](const Event& a, const Event& b) { return a.time < b.time; });
  std::erase_if(out.events, [&](Event& event) { return !repeats_.count_once(event); });
  return out;
}

Duration SourceSet::until_due(Time now) const {
  Duration least = kMissingInterval;
  for (const Entry& entry : entries_) {
    least = std::min(least, is_due(entry, now) ? Duration{0} : Duration(entry.next - now));
  }
  return least;
}

std::string SourceSet::save() const {
  json::object all;
  for (const Entry& entry : entries_) {
    const std::string saved = entry.source->save();
    if (!saved.empty()) all[entry.source->name()] = saved;
  }
  return json::serialize(all);
}

Status SourceSet::restore(std::string_view saved) {
  const auto all = parse_object(saved);
  if (!all) return fail(Errc::kInvalid, "positions of the sources: " + all.error().message);
  for (Entry& entry : entries_) {
    const std::string text = string_or(*all, entry.source->name());
    if (!text.empty()) entry.source->restore(text);
  }
  return {};
}

}  // namespace lifeboat::predictor
