// turn.hpp - a migration's place in the line of those that leave this node; see migration_queue.hpp.
#pragma once

#include <memory>

#include "migration/phase.hpp"

namespace lifeboat {

// Leaves the line when it goes.
class Turn {
 public:
  Turn(Node& node, const Move& move);
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn();

  // Until the migration may begin: its report says meanwhile where it stands and what it waits for.
  // kCancelled; kNotFound when the container has ended.
  awaitable<Status> wait();
  // The target has no place for it now: the next wait() lets others pass. kTimeout once it has said
  // so for timeouts.queue.
  Status put_off(const Error& busy);

 private:
  Node& node_;
  std::shared_ptr<Container> container_;
  std::shared_ptr<MigrationReport> report_;
  bool leaving_ = false;
  SteadyClock::time_point put_off_first_;
};

// Keeps what a report says of the speed up to date until the migration is over.
awaitable<void> follow_progress(Node& node, std::shared_ptr<MigrationReport> report);

}  // namespace lifeboat
