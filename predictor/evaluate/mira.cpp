// Mira's FATAL events and hardware reservations, per node board.
#include <algorithm>
#include <map>
#include <set>

#include "predictor/evaluate/csv.hpp"
#include "predictor/evaluate/failures.hpp"
#include "predictor/evaluate/readers.hpp"

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

Time at_second(std::int64_t second) { return Time(std::chrono::seconds(second)); }

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// All boards that a reservation's name has in it: "R.hw.R20-M0-N02_R20-M0-N03".
std::set<std::string> boards_in(std::string_view name) {
  std::set<std::string> boards;
  for (std::size_t at = 0; at < name.size(); ++at) {
    if (const std::string_view board = board_of(name.substr(at)); !board.empty()) boards.emplace(board);
  }
  return boards;
}

class MiraReader : public Reader {
 public:
  explicit MiraReader(const std::vector<Input>& reservations) : labelled_(!reservations.empty()) {
    for (const Input& input : reservations) {
      each_line(input.text, [&](std::string_view line, std::size_t) { reservation(line); });
    }
  }

  bool line(std::string_view line) override {
    split_fields(line, ',', fields_);
    if (fields_.size() < 7) return false;
    const auto time = to_integer(fields_[0]);
    if (!time) return false;
    if (beyond(at_second(*time))) return true;
    Event event;
    event.time = at_second(*time);
    event.location = std::string(fields_[6]);
    const std::string_view board = board_of(event.location);
    event.node = board.empty() ? "machine" : std::string(board);
    event.source = "mira";
    event.severity = Severity::kFatal;
    event.text = std::string(fields_[2]) + " " + std::string(fields_[3]) + " " +
                 std::string(fields_[4]);
    event.details = {{"template", std::string(fields_[2])},
                     {"category", std::string(fields_[3])},
                     {"group", event.location.substr(0, 6)}};
    if (!labelled_ && !board.empty()) {
      failures_.add({event.time, event.time, event});
    }
    events_.push_back(std::move(event));
    return true;
  }

  void finish(std::vector<Event>& events) override {
    if (events_.empty()) return;
    const auto first = std::min_element(events_.begin(), events_.end(),
                                        [](const Event& a, const Event& b) { return a.time < b.time; });
    all_boards(first->time, events);
    // The failure before its message: the message is what foretells the next one.
    failures_.append_to(events);
    events.insert(events.end(), events_.begin(), events_.end());
  }

 private:
  void reservation(std::string_view line) {
    split_fields(line, ',', fields_);
    if (fields_.size() < 3) return;
    const auto start = to_integer(fields_[0]);
    const auto end = to_integer(fields_[1]);
    if (!start || !end) return;
    for (const std::string& board : boards_in(fields_[2])) {
      Failure failure{at_second(*start), at_second(std::max(*start, *end)), {}};
      failure.event.node = board;
      failure.event.source = "mira";
      failure.event.text = "reserved for repair: " + std::string(fields_[2].substr(0, 128));
      failure.event.details = {{"group", board.substr(0, 6)}};
      failures_.add(std::move(failure));
    }
  }

  // 48 racks of two midplanes of 16 boards.
  static void all_boards(Time time, std::vector<Event>& events) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    for (const char row : std::string_view("012")) {
      for (const char rack : kHex) {
        for (const char half : std::string_view("01")) {
          for (int board = 0; board < 16; ++board) {
            Event event;
            event.time = time;
            event.kind = EventKind::kRepaired;
            event.node = std::string("R") + row + rack + "-M" + half + "-N" +
                         (board < 10 ? "0" : "1") + std::to_string(board % 10);
            event.details = {{"group", event.node.substr(0, 6)}};
            events.push_back(std::move(event));
          }
        }
      }
    }
  }

  bool labelled_;
  std::vector<std::string_view> fields_;
  std::vector<Event> events_;
  Failures failures_;
};

}  // namespace

std::string_view board_of(std::string_view location) {
  const bool board = location.size() >= 10 && location[0] == 'R' && is_hex(location[1]) &&
                     is_hex(location[2]) && location[3] == '-' && location[4] == 'M' &&
                     is_digit(location[5]) && location[6] == '-' && location[7] == 'N' &&
                     is_digit(location[8]) && is_digit(location[9]);
  return board ? location.substr(0, 10) : std::string_view{};
}

std::unique_ptr<Reader> make_mira_reader(const std::vector<Input>& reservations) {
  return std::make_unique<MiraReader>(reservations);
}

}  // namespace lifeboat::predictor
