// node_watch.hpp - this node watched by itself: what its sources tell goes to the predictor, and what the
// predictor says of the node becomes its state (health.hpp).
//
// Sources read files and start programs, so all of it happens on a thread of its own; only verdicts come
// to the event loop. What was learned and how far each source was read is kept in state_dir/predictor.json, by
// another thread.
// A node that starts again without having been shut down has failed: that is what the models learn from.
#pragma once

#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/disk_thread.hpp"
#include "config.hpp"
#include "health.hpp"
#include "predictor/predictor.hpp"
#include "predictor/sources/source_set.hpp"

namespace lifeboat {

class NodeWatch {
 public:
  NodeWatch(asio::any_io_executor executor, const Config& config, const std::string& node,
            Health& health);
  // Watches until the program ends.
  void start();
  // Once the event loop has ended: keeps what is known, and that this was no failure.
  void end();
  // The probability, by the predictor, that this node fails within its horizon.
  [[nodiscard]] double risk() const { return risk_; }

 private:
  struct Seen {
    std::vector<predictor::Notice> notices;
    std::vector<predictor::Verdict> verdicts;
    bool degraded = false;  // this node, by the predictor
    double risk = 0;
    predictor::Duration pause{};
  };

  awaitable<void> run();
  Status load();
  [[nodiscard]] std::string learned(predictor::Time now, bool clean) const;
  void keep(const std::string& text);
  Seen look();
  void tell(const Seen& seen);
  void tell(const predictor::Verdict& verdict);

  asio::any_io_executor executor_;
  std::string node_;
  std::string path_;
  std::string boot_id_;
  Health& health_;
  predictor::SourceSet sources_;
  predictor::Predictor predictor_;
  predictor::Time saved_at_{};
  bool started_ = false;
  double risk_ = 0;
  bool save_failed_ = false;     // of disk_ alone
  DiskThread disk_;              // a disk that hangs is nothing that may keep a node from being watched
  asio::thread_pool thread_{1};  // last: it ends before what it uses
};

// One line of evidence, as `lifeboat nodes NODE` shows it: when, where from, what, and why it matters.
[[nodiscard]] std::string evidence_line(const predictor::Evidence& evidence);

}  // namespace lifeboat
