// program.hpp - a program that a source runs without waiting for it: started at one poll, its
// output and end found at later ones. It is ended, with its whole process group, when its time is
// up, when it leaves others behind and when its owner goes.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/process.hpp"
#include "base/result.hpp"
#include "base/starter.hpp"

namespace lifeboat::predictor {

class Program {
 public:
  struct Options {
    std::vector<std::string> argv;           // [0]: a name to be found on PATH, or a path
    std::chrono::milliseconds limit{30'000};  // 0: as long as it likes
    std::size_t output_max = 1 << 20;        // bytes kept; the rest is read and thrown away
    bool with_errors = false;                // stderr goes with stdout; else it is thrown away
  };
  struct Output {
    int exit_code = 0;  // 128 + signal number when a signal ended it
    std::string text;
    bool cut = false;  // there was more than output_max
  };

  Program() = default;
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { stop(); }

  // Messages are English and times UTC, whatever this machine prefers. kNotFound: there is no such
  // program.
  Status start(const Options& options);
  // From start() until poll() has told of its end.
  [[nodiscard]] bool running() const { return starting_ || process_.valid(); }
  // Nothing while it runs; then, once, how it ended. kTimeout: it was ended.
  [[nodiscard]] std::optional<Result<Output>> poll();
  // What it has said since the last call, for one that does not end.
  [[nodiscard]] std::string take();
  void stop();

 private:
  Status look_at_start();
  void read_output();

  Options options_;
  std::optional<ProcessStart> starting_;
  Process process_;
  std::optional<ProcessEnd> ending_;
  Fd output_;
  Output so_far_;
  SteadyClock::time_point deadline_;  // of the real clock: the program lives in real time
};

}  // namespace lifeboat::predictor
