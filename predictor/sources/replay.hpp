// replay.hpp - events that somebody else has made, one replay line each (event.hpp), from a file
// that grows or a FIFO: recordings, drills, the demo, and programs that know something of a node.
//
// Every line counts as it is, with its own time and node. A file that became shorter is read from
// its start. Lines that are none are skipped, and told when nothing else is.
#pragma once

#include <chrono>

#include "base/fd.hpp"
#include "predictor/source.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

class ReplaySource final : public Source {
 public:
  ReplaySource(std::string file, std::chrono::milliseconds interval)
      : file_(std::move(file)), interval_(interval) {}

  [[nodiscard]] std::string name() const override { return "replay"; }
  Result<std::vector<Event>> poll(Time now) override;
  [[nodiscard]] Duration interval() const override { return interval_; }
  // How much of a file has been read; another file of the same name starts again.
  [[nodiscard]] std::string save() const override;
  void restore(const std::string& saved) override;

 private:
  Status open();
  Status read_some();

  std::string file_;
  Duration interval_;
  Fd fd_;
  bool is_fifo_ = false;
  std::uint64_t inode_ = 0;
  std::uint64_t offset_ = 0;  // of a file: what has been read, whole lines or not
  LineBuffer lines_;
};

}  // namespace lifeboat::predictor
