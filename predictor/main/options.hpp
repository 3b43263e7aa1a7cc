// options.hpp - the few options of lifeboat-predict's subcommands: "--name VALUE...", "--flag".
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "predictor/event.hpp"

namespace lifeboat::predictor {

class Options {
 public:
  // Values of an option, as many as follow it up to the next option.
  using Values = std::vector<std::string>;
  using Take = std::function<Status(const Values&)>;

  void add(std::string name, Take take) { takes_[std::move(name)] = std::move(take); }
  void flag(std::string name, bool& out);
  void text(std::string name, std::string& out);
  void texts(std::string name, Values& out);        // one or more; given twice: all of them
  void duration(std::string name, Duration& out);   // "90s", "5min", "12h", "7d"
  void number(std::string name, double& out);       // not negative
  // kInvalid naming the option that is wrong.
  Status parse(int argc, char** argv) const;

 private:
  std::map<std::string, Take> takes_;
};

Result<Duration> duration_from(const std::string& text);

}  // namespace lifeboat::predictor
