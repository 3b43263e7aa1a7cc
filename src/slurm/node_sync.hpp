// node_sync.hpp - what Slurm is told of this node: FAIL while it is not well, DRAIN while an operator empties it,
// and nothing of ours any more once it is up.
//
//   the node is        Slurm says                        done
//   not up             nothing, or a reason of ours      FAIL or DRAIN, "lifeboat: WHY [CLUSTER/NODE/SINCE]"
//   not up             closed for another's reason       nothing: their word stays
//   up                 FAIL or DRAIN for our reason      cleared
//   up                 anything else                     nothing
//
// Each node speaks for itself alone. For one that is silent nobody does: Slurm notices a dead node by itself, and
// one whose lifeboatd alone is dead must not lose its jobs.
//
// Nothing is remembered but what Slurm shows: it is compared when the daemon starts, after each change of the
// node's state, and while the node is not up every slurm.refresh, so that a word that was lost is said again. Only
// the newest wish counts; what fails is tried again after a pause. Nobody waits for any of it.
#pragma once

#include <memory>
#include <string>

#include "base/asio.hpp"
#include "node.hpp"
#include "slurm/contact.hpp"
#include "slurm/text.hpp"

namespace lifeboat::slurm {

class NodeSync {
 public:
  explicit NodeSync(Node& node);
  // Until the program ends.
  void start();
  // The node's state has changed.
  void wake();
  // Why Slurm has not been told; empty: it has, or nothing was to be.
  [[nodiscard]] const std::string& problem() const { return contact_.problem(); }

 private:
  awaitable<void> run();
  awaitable<Status> compare();

  Node& node_;
  Owner owner_;
  std::weak_ptr<asio::steady_timer> pause_;  // of run(): ends with the event loop
  bool woken_ = false;
  Contact contact_;
  std::string foreign_;  // the reason of somebody else's that was told of
};

}  // namespace lifeboat::slurm
