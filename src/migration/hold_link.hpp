// hold_link.hpp - kept frames (hold.hpp) on their way from the source to the target; what the source does
// is FrozenContainer's, in phase.hpp.
#pragma once

#include <memory>

#include "container.hpp"
#include "migration/hold.hpp"
#include "migration/link.hpp"
#include "report.hpp"

namespace lifeboat {

// At the source, before the freeze. Where frames cannot be kept, the report says so and they are lost.
void prepare_hold(bool wanted, Container& container, MigrationReport& report);

// At the target: the frame that is due, after any number of HeldFrames, which are added to `held`.
awaitable<Result<json::object>> expect_after_held(Link& link, protocol::Kind kind, HeldFrames& held,
                                                  Milliseconds limit);

// At the target, once the container runs: gives it those of `held` from number `next` on, and what the
// source sends until its HeldEnd; tells the source how many it got in all.
awaitable<Status> deliver_rest(Link& link, std::shared_ptr<Container> container, HeldFrames held,
                               std::size_t next, Milliseconds limit);

}  // namespace lifeboat
