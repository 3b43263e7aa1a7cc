#include "slurm/contact.hpp"

#include "base/log.hpp"
#include "events.hpp"

namespace lifeboat::slurm {

void Contact::tell(const Status& done) {
  if (done && failures_ > 0) {
    log::info(events::kSlurmReachable, "Slurm answers again", {{"failed", std::to_string(failures_)}});
  }
  if (!done && failures_ == 0) {
    log::error(events::kSlurmUnreachable, "Slurm does not answer as it should; asking again",
               {{"reason", done.error().message}});
  }
  failures_ = done ? 0 : failures_ + 1;
  problem_ = done ? "" : done.error().message;
}

}  // namespace lifeboat::slurm
