#include "migration/cancellation.hpp"

namespace lifeboat {

// Not in the header: inlined into coroutines, g++ 12 sees an access out of bounds in it.
Status Cancellation::check() const {
  if (!requested_) return {};
  return fail(Errc::kCancelled, reason_);
}

}  // namespace lifeboat
