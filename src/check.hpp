// check.hpp - whether a node is fit for Lifeboat: every prerequisite, and what to do where one is missing.
//
// check_machine() looks at this machine alone, as root and without a daemon. check_cluster() asks: this
// node's daemon, the registry, and every other node over every fabric, with this node's certificate.
#pragma once

#include <string>
#include <vector>

#include "base/asio.hpp"
#include "base/json.hpp"
#include "config.hpp"

namespace lifeboat {

enum class Fitness { kOk, kWarning, kError };
const char* to_string(Fitness fitness);

struct Finding {
  Fitness fitness = Fitness::kOk;
  std::string subject;  // "kernel", "fabric 10g", "node n2 over 10g"
  std::string found;    // what is so
  std::string why;      // what Lifeboat needs it for; empty when it is ok
  std::string fix;      // what to do; empty when it is ok
};
json::object to_json(const Finding& finding);

// The findings, in the order in which they are looked at.
class Findings {
 public:
  void ok(std::string subject, std::string found);
  void warning(std::string subject, std::string found, std::string why, std::string fix);
  void error(std::string subject, std::string found, std::string why, std::string fix);
  void append(Findings other);

  [[nodiscard]] const std::vector<Finding>& all() const { return all_; }
  // The worst of them.
  [[nodiscard]] Fitness fitness() const;

 private:
  std::vector<Finding> all_;
};

// `self`: the node of the configuration that this machine is. Runs CRIU and the OCI runtime; about 0.1 s.
// `limits`: those of this process are the daemon's as well, as they are when its unit runs this.
awaitable<Findings> check_machine(const Config& config, std::string self, bool limits);
// `measure`: sends as much as goes over each fabric, to the first node that answers there, for half a second.
awaitable<Findings> check_cluster(const Config& config, std::string self, bool measure);

// Files that this process may have open; and what is to be said of a daemon that may have so many.
std::uint64_t open_files_max();
void look_at_open_files(std::uint64_t most, Findings& out);

// Bytes of one answer to the peer request `node.fill`, which a measurement asks for.
inline constexpr std::size_t kFillBytesMax = 900 * 1024;

}  // namespace lifeboat
