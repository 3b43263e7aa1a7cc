// presence.hpp - this node's heartbeat in the registry: a key that lives as long as its lease is kept alive.
//
// A node whose lease is gone counts as dead where somebody has to decide alone: a target that holds
// everything of a container of its, a source that waits for it. That is safe though it may be wrong, as
// the decision itself is a swap.
#pragma once

#include <functional>
#include <string>

#include "registry/owners.hpp"

namespace lifeboat {

class Presence {
 public:
  // `on_answer` runs when the registry answers for the first time, or again, or the lease was lost; and until it says
  // that it is done, as the registry may go away meanwhile for less than is noticed here.
  Presence(Owners& owners, std::string node, Milliseconds term, std::function<awaitable<bool>()> on_answer)
      : owners_(owners), node_(std::move(node)), term_(term), on_answer_(std::move(on_answer)) {}

  // Until the program ends.
  awaitable<void> keep();

 private:
  awaitable<Status> grant();

  Owners& owners_;
  std::string node_;
  Milliseconds term_;
  std::function<awaitable<bool>()> on_answer_;
  LeaseId lease_ = kNoLease;
};

// Calls `on_gone` once a node's lease is gone, unless destroyed before. Where the registry does not answer
// nothing is known, and nothing called.
class PresenceWatch {
 public:
  PresenceWatch(const asio::any_io_executor& executor, Owners& owners, std::string node,
                std::function<void()> on_gone);
  PresenceWatch(const PresenceWatch&) = delete;
  PresenceWatch& operator=(const PresenceWatch&) = delete;
  ~PresenceWatch() { *on_gone_ = nullptr; }

 private:
  std::shared_ptr<std::function<void()>> on_gone_;  // empty: not wanted any more
};

}  // namespace lifeboat
