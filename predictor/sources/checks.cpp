#include "predictor/sources/checks.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/json.hpp"

namespace lifeboat::predictor {
namespace {

constexpr std::size_t kOutputMax = 64 * 1024;
constexpr std::size_t kChecksMax = 256;

// The line that says what is wrong: the first with ERROR, or the last one.
std::string told(std::string_view output, bool& says_error) {
  std::string_view last;
  for (const std::string_view line : split(output, '\n')) {
    if (line.starts_with("ERROR")) {
      says_error = true;
      return clean(line);
    }
    if (!trimmed(line).empty()) last = line;
  }
  return clean(last);
}

// Whoever may write it could run anything as this daemon.
bool is_trusted(const struct stat& about) {
  return (about.st_uid == 0 || about.st_uid == ::geteuid()) && (about.st_mode & S_IWOTH) == 0;
}

}  // namespace

Duration ChecksSource::interval() const {
  constexpr std::chrono::milliseconds kWhileRunning{100};
  return program_.running() || !waiting_.empty() ? kWhileRunning : options_.interval;
}

Status ChecksSource::find_checks() {
  const std::string directory = place_.path(options_.directory);
  Status problem;
  for (const std::string& file : list_directory(directory)) {
    const std::string path = directory + "/" + file;
    struct stat about {};
    if (file[0] == '.' || file.back() == '~' || ::stat(path.c_str(), &about) != 0) continue;
    if (!S_ISREG(about.st_mode) || (about.st_mode & S_IXUSR) == 0) continue;
    if (!is_trusted(about)) {
      problem = fail(Errc::kRefused, path + " is not run: others than root may change it");
      continue;
    }
    waiting_.push_back({file, {path}});
  }
  for (const std::string& command : options_.commands) {
    waiting_.push_back({command, {"/bin/sh", "-c", command}});
  }
  if (waiting_.size() > kChecksMax) waiting_.resize(kChecksMax);
  std::reverse(waiting_.begin(), waiting_.end());
  if (waiting_.empty() && problem) return fail(Errc::kNotFound, "no checks in " + directory);
  return problem;
}

Status ChecksSource::start_next() {
  current_ = std::move(waiting_.back());
  waiting_.pop_back();
  Program::Options options;
  options.argv = current_.argv;
  options.limit = options_.limit;
  options.output_max = kOutputMax;
  options.with_errors = true;
  if (auto started = program_.start(options); !started) {
    return fail(Errc::kSystem, "check " + current_.name + ": " + started.error().message);
  }
  return {};
}

Status ChecksSource::judge(const Program::Output& output, Time now, std::vector<Event>& events) {
  bool says_error = false;
  const std::string text = told(output.text, says_error);
  if (output.exit_code > 2) {
    return fail(Errc::kProtocol, "check " + current_.name + " ended with " +
                                     std::to_string(output.exit_code) + ": " + text);
  }
  Verdict verdict = Verdict::kFine;
  if (output.exit_code == 1 || says_error) verdict = Verdict::kDegraded;
  if (output.exit_code == 2) verdict = Verdict::kDown;
  const bool failed = verdict != Verdict::kFine;
  const bool before = std::exchange(failed_[current_.name], failed);
  if (!failed && !before) return {};
  Event event;
  event.time = now;
  event.node = place_.node;
  event.source = name();
  event.kind = EventKind::kCheck;
  event.severity = !failed                        ? Severity::kInfo
                   : verdict == Verdict::kDegraded ? Severity::kError
                                                   : Severity::kCritical;
  event.location = clean(current_.name.substr(0, 64));
  event.text = clean(current_.name + ": " + (text.empty() ? failed ? "failed" : "fine" : text));
  event.details = {{"verdict", !failed                        ? "fine"
                               : verdict == Verdict::kDegraded ? "degraded"
                                                               : "down"}};
  events.push_back(std::move(event));
  return {};
}

Result<std::vector<Event>> ChecksSource::poll(Time now) {
  std::vector<Event> events;
  Status problem;
  if (program_.running()) {
    auto ended = program_.poll();
    if (!ended) return events;
    problem = *ended
                  ? judge(**ended, now, events)
                  : Status(tl::unexpected<Error>(ended->error().context("check " + current_.name)));
  } else if (waiting_.empty()) {
    problem = find_checks();
  }
  if (!program_.running() && !waiting_.empty() && problem) problem = start_next();
  if (!problem && events.empty()) return tl::unexpected<Error>(problem.error());
  return events;
}

std::string ChecksSource::save() const {
  json::array failed;
  for (const auto& [check, did] : failed_) {
    if (did) failed.emplace_back(check);
  }
  return json::serialize(json::object{{"failed", std::move(failed)}});
}

void ChecksSource::restore(const std::string& saved) {
  const auto object = parse_object(saved);
  if (!object) return;
  const auto failed = get_strings(*object, "failed", kChecksMax);
  if (!failed) return;
  for (const std::string& check : *failed) failed_[check] = true;
}

}  // namespace lifeboat::predictor
