#include "predictor/evaluate/formats.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include "predictor/evaluate/csv.hpp"
#include "predictor/evaluate/failures.hpp"
#include "predictor/evaluate/readers.hpp"

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

constexpr std::array<std::string_view, 6> kFormats{"lanl", "mira", "alibaba",
                                                   "bgl",  "kmsg", "replay"};

Time at_second(std::int64_t second) { return Time(std::chrono::seconds(second)); }

Event in_service(Time time, std::string node, std::string_view group) {
  Event event;
  event.time = time;
  event.node = std::move(node);
  event.kind = EventKind::kRepaired;
  if (!group.empty()) event.details.emplace_back("group", group);
  return event;
}

// ---- LANL ---------------------------------------------------------------------------------------

// The systems of the SMP and NUMA clusters with more than one node that were in production to the
// end.
bool is_smp(std::int64_t system) {
  return (system >= 3 && system <= 6) || (system >= 8 && system <= 14) ||
         (system >= 18 && system <= 20);
}
bool is_numa(std::int64_t system) { return system == 2 || system == 16 || system == 23; }

class LanlReader : public Reader {
 public:
  bool line(std::string_view line) override {
    split_fields(line, ',', fields_);
    if (fields_.size() < 9) return false;
    const auto start = to_integer(fields_[0]);
    const auto end = to_integer(fields_[1]);
    const auto size = to_integer(fields_[7]);
    if (!start || !to_integer(fields_[2]) || !to_integer(fields_[3])) return false;
    if (beyond(at_second(*start))) return true;
    const std::string system(fields_[2]);
    System& entry = systems_.try_emplace(system, System{at_second(*start), 0}).first->second;
    entry.first = std::min(entry.first, at_second(*start));
    entry.nodes = std::max(entry.nodes, std::min<std::int64_t>(size.value_or(1), 100'000));
    Failure failure;
    failure.start = at_second(*start);
    failure.end = at_second(std::max(*start, end.value_or(*start + 3600)));
    failure.event.node = system + "/" + std::string(fields_[3]);
    failure.event.source = "lanl";
    failure.event.text = std::string(fields_[5]);
    failure.event.details = {{"group", system}, {"cause_class", std::string(fields_[4])}};
    failures_.add(std::move(failure));
    return true;
  }

  void finish(std::vector<Event>& events) override {
    for (const auto& [name, system] : systems_) {
      for (std::int64_t i = 0; i < system.nodes; ++i) {
        events.push_back(in_service(system.first, name + "/" + std::to_string(i), name));
      }
    }
    failures_.append_to(events);
  }

 private:
  struct System {
    Time first;
    std::int64_t nodes;
  };
  std::vector<std::string_view> fields_;
  std::map<std::string, System> systems_;
  Failures failures_;
};

// ---- Alibaba ------------------------------------------------------------------------------------

class AlibabaReader : public Reader {
 public:
  bool line(std::string_view line) override {
    split_fields(line, ',', fields_);
    if (fields_.size() < 7) return false;
    const auto time = to_integer(fields_[0]);
    if (!time || fields_[1].empty()) return false;
    if (beyond(at_second(*time))) return true;
    Failure failure;
    failure.start = at_second(*time);
    failure.end = failure.start + 1h;
    failure.event.node = std::string(fields_[1]);
    failure.event.location = std::string(fields_[4]);
    failure.event.source = "alibaba";
    failure.event.text = "SSD ticket, model " + std::string(fields_[5]);
    failure.event.details = {{"group", std::string(fields_[2])}};
    failures_.add(std::move(failure));
    return true;
  }
  void finish(std::vector<Event>& events) override { failures_.append_to(events); }

 private:
  std::vector<std::string_view> fields_;
  Failures failures_;
};

// ---- Replay -------------------------------------------------------------------------------------

class ReplayReader : public Reader {
 public:
  bool line(std::string_view line) override {
    auto event = parse_replay_line(line);
    if (!event) return false;
    const auto seconds = std::chrono::floor<std::chrono::seconds>(event->time).time_since_epoch();
    if (std::abs(seconds.count()) >= kIntegerEnd) return false;
    if (beyond(event->time)) return true;
    events_.push_back(*std::move(event));
    return true;
  }
  void finish(std::vector<Event>& events) override {
    std::move(events_.begin(), events_.end(), std::back_inserter(events));
  }

 private:
  std::vector<Event> events_;
};

}  // namespace

void Failures::append_to(std::vector<Event>& events) {
  for (auto& [node, list] : of_) {
    std::stable_sort(list.begin(), list.end(),
                     [](const Failure& a, const Failure& b) { return a.start < b.start; });
    for (std::size_t i = 0; i < list.size();) {
      Failure& first = list[i];
      Time end = first.end;
      for (++i; i < list.size() && list[i].start <= end + kOneFailure; ++i) {
        end = std::max(end, list[i].end);
      }
      Event down = std::move(first.event);
      down.time = first.start;
      down.kind = EventKind::kDown;
      down.severity = Severity::kFatal;
      Event repaired = in_service(end, node, detail(down, "group"));
      events.push_back(std::move(down));
      events.push_back(std::move(repaired));
    }
  }
}

Result<Format> format_from(std::string_view text) {
  const auto found = std::find(kFormats.begin(), kFormats.end(), text);
  if (found != kFormats.end()) return static_cast<Format>(found - kFormats.begin());
  return fail(Errc::kInvalid, "no format '" + std::string(text) +
                                  "'; there are lanl, mira, alibaba, bgl, kmsg, replay");
}

Result<Input> read_input(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return fail_errno(path);
  return Input{path, std::move(text)};
}

Result<Log> read_log(Format format, const std::vector<Input>& inputs,
                     const std::vector<Input>& labels, std::size_t limited, Time limit) {
  const auto make = [&]() -> std::unique_ptr<Reader> {
    switch (format) {
      case Format::kLanl: return std::make_unique<LanlReader>();
      case Format::kMira: return make_mira_reader(labels);
      case Format::kAlibaba: return std::make_unique<AlibabaReader>();
      case Format::kBgl: return make_bgl_reader();
      case Format::kKmsg: return make_kmsg_reader();
      case Format::kReplay: return std::make_unique<ReplayReader>();
    }
    return nullptr;
  };
  const std::unique_ptr<Reader> reader = make();
  Log log;
  std::size_t good = 0;
  for (const Input& input : inputs) {
    reader->set_limit(&input - inputs.data() < static_cast<std::ptrdiff_t>(limited) ? limit
                                                                                  : Time::max());
    each_line(input.text, [&](std::string_view line, std::size_t number) {
      if (line.empty()) return;
      if (reader->line(line)) {
        ++good;
        return;
      }
      const bool heading = number == 1;  // of a table
      if (heading) return;
      if (log.rejected++ == 0) {
        log.first_rejected = input.name + ":" + std::to_string(number);
      }
    });
  }
  if (good == 0) {
    return fail(Errc::kInvalid, (inputs.empty() ? "no input" : inputs.front().name) +
                                    ": no line is of the format " +
                                    std::string(kFormats[static_cast<std::size_t>(format)]));
  }
  reader->finish(log.events);
  std::stable_sort(log.events.begin(), log.events.end(),
                   [](const Event& a, const Event& b) { return a.time < b.time; });
  return log;
}

Time begin_of(const Log& log) {
  const auto first = std::find_if(log.events.begin(), log.events.end(), [](const Event& event) {
    return event.kind != EventKind::kRepaired;
  });
  return first == log.events.end() ? Time::max() : first->time;
}

std::string_view population_of(Format format, std::string_view node) {
  if (format != Format::kLanl) return "all";
  const std::int64_t system = to_integer(node.substr(0, node.find('/'))).value_or(0);
  return is_smp(system) ? "smp" : is_numa(system) ? "numa" : "other";
}

bool is_scored(Format format, std::string_view node) {
  return format != Format::kMira || board_of(node) == node;
}

}  // namespace lifeboat::predictor
