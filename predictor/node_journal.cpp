#include "predictor/node_journal.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cmath>

#include "base/file.hpp"

namespace lifeboat::predictor {
namespace {

constexpr std::size_t kFileMax = 64 << 20;

std::int64_t microseconds(Time time) { return time.time_since_epoch().count(); }

Time time_or_zero(const json::object& object, std::string_view key) {
  constexpr double kTimeMax = 4e15;  // the year 2096
  const double value = number_or(object, key);
  return Time(Duration(value > 0 && value < kTimeMax ? static_cast<std::int64_t>(value) : 0));
}

std::string line(const std::string& node, std::string_view change, const std::vector<Reason>& reasons,
                 Time now) {
  NodeState state{StateTimes{}};
  state.restore(reasons);
  json::array list;
  for (const Reason& reason : reasons) list.push_back(to_json(reason));
  json::object record{{"t", microseconds(now)},
                      {"node", node},
                      {"signal", change},
                      {"state", to_string(state.condition())},
                      {"reasons", std::move(list)}};
  return json::serialize(record) + "\n";
}

Result<std::vector<Reason>> reasons_from(const json::object& record) {
  TRY(const json::array* list, get_array(record, "reasons"));
  std::vector<Reason> reasons;
  for (const json::value& item : *list) {
    if (!item.is_object()) return fail(Errc::kProtocol, "a reason is no object");
    TRY(Reason reason, reason_from(item.get_object()));
    reasons.push_back(std::move(reason));
  }
  return reasons;
}

}  // namespace

json::object to_json(const Reason& reason) {
  return {{"cause", to_string(reason.cause)},
          {"state", to_string(reason.condition)},
          {"reason", reason.text},
          {"evidence", to_array(reason.evidence)},
          {"since", microseconds(reason.since)},
          {"until", microseconds(reason.until)},
          {"lead_s", std::chrono::duration<double>(reason.lead).count()},
          {"risk", reason.risk},
          {"cleared", reason.cleared}};
}

Result<Reason> reason_from(const json::object& object) {
  constexpr std::size_t kEvidenceMax = 1000;
  Reason reason;
  TRY(const std::string cause, get_string(object, "cause"));
  TRY(reason.cause, cause_from(cause));
  TRY(const std::string condition, get_string(object, "state"));
  TRY(reason.condition, node_condition_from(condition));
  TRY(reason.text, get_string(object, "reason"));
  TRY(reason.evidence, get_strings(object, "evidence", kEvidenceMax));
  reason.since = time_or_zero(object, "since");
  reason.until = time_or_zero(object, "until");
  const double lead_s = number_or(object, "lead_s");
  if (std::isfinite(lead_s) && lead_s > 0 && lead_s < 1e9) {
    reason.lead = Duration(static_cast<std::int64_t>(lead_s * 1e6));
  }
  reason.risk = number_or(object, "risk");
  reason.cleared = flag(object, "cleared");
  return reason;
}

Result<NodeJournal> NodeJournal::open(std::string path) {
  NodeJournal journal(std::move(path));
  struct stat found {};
  if (::stat(journal.path_.c_str(), &found) == 0) {
    TRY(const std::string text, read_file(journal.path_, kFileMax));
    journal.read(text);
  }
  if (auto begun = journal.begin(); !begun) journal.problem_ = begun.error().message;
  return journal;
}

Status NodeJournal::begin() {
  std::string reduced;
  const Time now = std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now());
  for (const auto& [node, reasons] : kept_) {
    if (!reasons.empty()) reduced += line(node, "start", reasons, now);
  }
  CHECK_OK(replace_file(path_, reduced));
  file_ = Fd(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!file_) return fail_errno("open " + path_);
  return {};
}

void NodeJournal::read(const std::string& text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t end = text.find('\n', at);
    if (end == std::string::npos) return;  // cut off
    auto record = parse_object(std::string_view(text).substr(at, end - at));
    at = end + 1;
    auto node = record ? get_string(*record, "node") : fail(Errc::kProtocol, "");
    auto reasons = node ? reasons_from(*record) : fail(Errc::kProtocol, "");
    if (reasons) {
      kept_[*node] = std::move(*reasons);
    } else {
      ++unreadable_;
    }
  }
}

Status NodeJournal::append(const std::string& node, std::string_view cause_of_change,
                           const NodeState& state, Time now) {
  kept_[node] = state.reasons();
  if (!file_) return begin();
  const std::string text = line(node, cause_of_change, state.reasons(), now);
  // One write: a crash leaves at most its beginning, as the last line.
  const ssize_t written = ::write(file_.get(), text.data(), text.size());
  if (written < 0) return fail_errno("write " + path_);
  if (static_cast<std::size_t>(written) != text.size()) {
    // The next line must not join what is there of this one.
    (void)::write(file_.get(), "\n", 1);
    return fail(Errc::kSystem, "write " + path_ + ": no space left for a whole line");
  }
  if (::fdatasync(file_.get()) != 0) return fail_errno("sync " + path_);
  return {};
}

}  // namespace lifeboat::predictor
