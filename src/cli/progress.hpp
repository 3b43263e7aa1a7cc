// progress.hpp - a migration under way, as the command line shows it; from the daemon's reports.
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"

namespace lifeboat {

// "pre-copy round 3: 812 MiB sent, 212 MiB left, dirty 40 MB/s, wire 117 MB/s, ETA 2.1 s, downtime
// about 190 ms"; what is not known is left out.
std::string progress_text(const json::object& report);

// The same in columns.
extern const std::vector<std::string> kProgressHead;
std::vector<std::string> progress_row(const json::object& report);

// Cut off at the width of the terminal, so that a line is a line; as it is if that is not known.
std::string fit_terminal(const std::string& text, int fd);

// Lines that are rewritten in a terminal (stderr), and said once per phase elsewhere.
class Screen {
 public:
  explicit Screen(bool quiet);
  void show(const std::vector<json::object>& reports);
  // Takes away what was shown.
  void end();

 private:
  void rewrite(const std::string& text);
  void tell_phases(const std::vector<json::object>& reports);
  bool quiet_;
  bool terminal_;
  std::size_t lines_ = 0;
  std::vector<std::string> told_;  // phases, one for each report
};

}  // namespace lifeboat
