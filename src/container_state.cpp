// Apart, for whoever reads of containers and has none.
#include "container.hpp"

namespace lifeboat {

const char* to_string(ContainerState state) {
  switch (state) {
    case ContainerState::kStarting: return "starting";
    case ContainerState::kRunning: return "running";
    case ContainerState::kLeaving: return "leaving";
    case ContainerState::kArriving: return "arriving";
    case ContainerState::kInDoubt: return "in-doubt";
    case ContainerState::kDraining: return "draining";
    case ContainerState::kExited: return "exited";
  }
  return "unknown";
}

}  // namespace lifeboat
