// checks.hpp - the word of an operator's or a site's own scripts (as of LBNL's Node Health Check):
// every executable of a directory, and command lines, one after the other.
//
//   exit status 0   fine, unless a line begins with "ERROR": then as 1
//   exit status 1   the node is degraded           severity error
//   exit status 2   it should not be used          severity critical
//
// A check that fails says so at every run; one that is fine again says so once (severity info). One
// that hangs is ended with its process group; this, any other status and a script that others than
// root may change say nothing about the node: they are errors of the check.
#pragma once

#include <chrono>
#include <map>

#include "predictor/source.hpp"
#include "predictor/sources/program.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

struct ChecksOptions {
  std::chrono::milliseconds interval{300'000};  // from the end of one round to the next
  std::chrono::milliseconds limit{30'000};      // of one check
  std::string directory = "/etc/lifeboat/checks.d";  // below the root
  std::vector<std::string> commands;                 // for /bin/sh -c
};

class ChecksSource final : public Source {
 public:
  ChecksSource(Place place, ChecksOptions options)
      : place_(std::move(place)), options_(std::move(options)) {}

  [[nodiscard]] std::string name() const override { return "checks"; }
  Result<std::vector<Event>> poll(Time now) override;
  // Often while a check runs.
  [[nodiscard]] Duration interval() const override;
  [[nodiscard]] std::string save() const override;
  void restore(const std::string& saved) override;

 private:
  struct Check {
    std::string name;  // of the file, or the command line
    std::vector<std::string> argv;
  };
  enum class Verdict { kFine, kDegraded, kDown };

  Status find_checks();
  Status start_next();
  Status judge(const Program::Output& output, Time now, std::vector<Event>& events);

  Place place_;
  ChecksOptions options_;
  std::vector<Check> waiting_;  // of this round, the next one last
  Check current_;
  Program program_;
  std::map<std::string, bool> failed_;  // at its last run
};

}  // namespace lifeboat::predictor
