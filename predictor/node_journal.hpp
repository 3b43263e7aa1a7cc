// node_journal.hpp - node states that outlive the daemon and the machine.
//
// An append-only file; a line for each transition, synced before it counts:
//   {"t":1700000000123456,"node":"n1","signal":"degrade","state":"degraded","reasons":[{...}]}
// `reasons` is all that stands after it, so the last line of a node is its state. At start the file is
// reduced to these. A last line that was cut off by a crash is as if it had never been written; any
// other that cannot be read is skipped and counted.
#pragma once

#include <map>
#include <string>

#include "base/fd.hpp"
#include "base/json.hpp"
#include "predictor/node_state.hpp"

namespace lifeboat::predictor {

// {"cause","state","reason","evidence","since","until","lead_s","risk","cleared"}; times in
// microseconds since 1970.
json::object to_json(const Reason& reason);
Result<Reason> reason_from(const json::object& object);

class NodeJournal {
 public:
  // Reads and reduces the file; one that is not there is empty. kSystem: it cannot be read. One that cannot
  // be written (a full disk, a read-only one: a node that goes bad) is a problem(), and tried again by each
  // append().
  static Result<NodeJournal> open(std::string path);

  // Why nothing is kept at first; empty: it is.
  [[nodiscard]] const std::string& problem() const { return problem_; }
  // The reasons that stood for each node when it was opened, or stand by what was appended.
  [[nodiscard]] const std::map<std::string, std::vector<Reason>>& kept() const { return kept_; }
  // Lines, other than a last one that was cut off, that could not be read.
  [[nodiscard]] std::size_t unreadable() const { return unreadable_; }

  // Returns once it is on disk.
  Status append(const std::string& node, std::string_view cause_of_change, const NodeState& state,
                Time now);

 private:
  explicit NodeJournal(std::string path) : path_(std::move(path)) {}
  void read(const std::string& text);
  Status begin();

  std::string path_;
  Fd file_;
  std::string problem_;
  std::map<std::string, std::vector<Reason>> kept_;
  std::size_t unreadable_ = 0;
};

}  // namespace lifeboat::predictor
