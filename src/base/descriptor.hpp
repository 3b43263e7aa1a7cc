// descriptor.hpp - descriptors that the event loop waits for.
#pragma once

#include "base/asio.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

// The constructor that takes a descriptor throws when the event loop cannot have one more, and nobody owns the
// descriptor then. This closes it, and says why.
inline Result<asio::posix::stream_descriptor> watched(const asio::any_io_executor& executor, Fd fd) {
  asio::posix::stream_descriptor descriptor(executor);
  boost::system::error_code error;
  descriptor.assign(fd.get(), error);
  if (error) return fail_errno("wait for a descriptor", error.value());
  (void)fd.release();
  return descriptor;
}

}  // namespace lifeboat
