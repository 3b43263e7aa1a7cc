#include "cli/progress.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <sstream>

#include "cli/cli.hpp"

namespace lifeboat {

const std::vector<std::string> kProgressHead = {
    "MIGRATION", "CONTAINER", "FROM", "TO",   "FABRIC", "STATE",
    "SENT",      "LEFT",      "DIRTY", "RATE", "ETA",    "DOWNTIME"};

namespace {

// Null and missing alike.
bool known(const json::object& report, std::string_view key) {
  return number_or(report, key, -1) >= 0;
}

std::string rate(const json::object& report, std::string_view key) {
  return fixed(number_or(report, key) / 1e6, 0) + " MB/s";
}

bool is_over(const json::object& report) {
  const std::string outcome = string_or(report, "outcome", "running");
  return outcome != "running" && outcome != "in-doubt";
}

std::string state_text(const json::object& report) {
  const std::string phase = string_or(report, "phase");
  if (is_over(report) || string_or(report, "outcome") == "in-doubt") {
    return string_or(report, "outcome");
  }
  if (phase == "queued") return "queued " + fixed(number_or(report, "queue_position"), 0);
  if (phase != "pre-copy") return phase;
  auto rounds = get_array(report, "rounds");
  return "pre-copy round " + std::to_string(rounds ? (*rounds)->size() + 1 : 1);
}

}  // namespace

std::string progress_text(const json::object& report) {
  std::string text = state_text(report);
  if (is_over(report)) return text;
  const std::string phase = string_or(report, "phase");
  const bool waits = phase == "queued" || phase == "connect";
  if (phase == "queued" && !string_or(report, "waiting_for").empty()) {
    text += ", waiting for " + string_or(report, "waiting_for");
  }
  if (!waits) text += ": " + mib(report, "bytes_sent") + " sent";
  text += (waits ? ": " : ", ") + mib(report, "remaining_bytes") + " left";
  auto rounds = get_array(report, "rounds");
  if (!waits && rounds && !(*rounds)->empty()) text += ", dirty " + rate(report, "dirty_bytes_per_s");
  if (!waits) text += ", wire " + rate(report, "rate_bytes_per_s");
  if (known(report, "eta_s")) text += ", ETA " + fixed(number_or(report, "eta_s"), 1) + " s";
  if (known(report, "expected_downtime_ms")) {
    text += ", downtime about " + fixed(number_or(report, "expected_downtime_ms"), 0) + " ms";
  }
  return text;
}

std::vector<std::string> progress_row(const json::object& report) {
  const bool over = is_over(report);
  std::string downtime = "-";
  if (over && number_or(report, "downtime_ms") > 0) {
    downtime = fixed(number_or(report, "downtime_ms"), 0) + " ms";
  } else if (!over && known(report, "expected_downtime_ms")) {
    downtime = "~" + fixed(number_or(report, "expected_downtime_ms"), 0) + " ms";
  }
  const bool eta = !over && known(report, "eta_s");
  return {string_or(report, "id", "-"),
          string_or(report, "container"),
          string_or(report, "source", "-"),
          string_or(report, "target"),
          string_or(report, "fabric", "-"),
          state_text(report),
          mib(report, "bytes_sent"),
          mib(report, "remaining_bytes"),
          over ? "-" : rate(report, "dirty_bytes_per_s"),
          over ? "-" : rate(report, "rate_bytes_per_s"),
          eta ? fixed(number_or(report, "eta_s"), 1) + " s" : "-",
          downtime};
}

std::string fit_terminal(const std::string& text, int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return text;
  std::istringstream lines(text);
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    out += line.substr(0, std::min<std::size_t>(line.size(), size.ws_col - 1)) + "\n";
  }
  return out;
}

Screen::Screen(bool quiet) : quiet_(quiet), terminal_(::isatty(STDERR_FILENO) == 1) {}

void Screen::show(const std::vector<json::object>& reports) {
  if (quiet_) return;
  if (!terminal_) return tell_phases(reports);
  if (reports.size() == 1) return rewrite("  " + progress_text(reports.front()) + "\n");
  Table table(kProgressHead);
  for (const json::object& report : reports) table.add(progress_row(report));
  rewrite(table.text());
}

void Screen::end() {
  if (!quiet_ && terminal_) rewrite("");
}

void Screen::rewrite(const std::string& text) {
  const std::string fitting = fit_terminal(text, STDERR_FILENO);
  if (lines_ > 0) std::cerr << "\033[" << lines_ << "A\033[J";
  std::cerr << fitting << std::flush;
  lines_ = static_cast<std::size_t>(std::count(fitting.begin(), fitting.end(), '\n'));
}

void Screen::tell_phases(const std::vector<json::object>& reports) {
  told_.resize(reports.size());
  for (std::size_t i = 0; i < reports.size(); ++i) {
    const std::string phase = string_or(reports[i], "phase");
    if (phase == told_[i]) continue;
    told_[i] = phase;
    std::cerr << "  " << (reports.size() > 1 ? string_or(reports[i], "container") + ": " : "") << phase
              << "\n";
  }
}

}  // namespace lifeboat
