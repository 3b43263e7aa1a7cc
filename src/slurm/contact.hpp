// contact.hpp - whether Slurm answers: said once when it stops, and once when it does again.
#pragma once

#include <string>

#include "base/result.hpp"

namespace lifeboat::slurm {

class Contact {
 public:
  // How one exchange with it ended.
  void tell(const Status& done);
  // In a row, the last one among them.
  [[nodiscard]] unsigned failures() const { return failures_; }
  // Why the last exchange failed; empty: it did not.
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  unsigned failures_ = 0;
  std::string problem_;
};

}  // namespace lifeboat::slurm
