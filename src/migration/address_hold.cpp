// ContainerNet's part of hold.hpp: frames kept while it is unplugged, and given to the container.
#include <linux/if_packet.h>
#include <sys/socket.h>

#include "migration/address.hpp"

namespace lifeboat {

Status ContainerNet::prepare_hold() {
  if (!holds_.empty()) return {};
  std::vector<HoldDevice> made;
  for (const Port& port : ports_) {
    TRY(HoldDevice device, HoldDevice::create(*node_));
    CHECK_OK(check_can_hold(*node_, port.host_index, device.link_index()));
    made.push_back(std::move(device));
  }
  holds_ = std::move(made);
  return {};
}

// Towards the devices first: a frame in between is kept, too.
Status ContainerNet::start_hold() {
  for (std::size_t i = 0; i < holds_.size(); ++i) {
    CHECK_OK(hold(*node_, ports_[i].host_index, holds_[i].link_index()));
  }
  return {};
}

void ContainerNet::collect_held(HeldFrames& into) {
  for (std::size_t i = 0; i < holds_.size(); ++i) {
    holds_[i].collect(static_cast<std::uint16_t>(i), into);
  }
}

std::uint64_t ContainerNet::held_dropped() {
  std::uint64_t dropped = 0;
  for (const HoldDevice& device : holds_) dropped += device.dropped(*node_);
  return dropped;
}

// The host end sends straight into the container: the bridge, and what it has learned, is not concerned.
std::size_t ContainerNet::deliver(const HeldFrames& held, std::size_t first,
                                  std::chrono::microseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  const std::vector<HeldFrames::Frame>& frames = held.frames();
  std::size_t next = first;
  for (; next < frames.size() && std::chrono::steady_clock::now() < deadline; ++next) {
    const HeldFrames::Frame& frame = frames[next];
    if (frame.port >= ports_.size()) continue;
    sockaddr_ll end{};
    end.sll_family = AF_PACKET;
    end.sll_ifindex = ports_[frame.port].host_index;
    // One that cannot be sent is lost, as any frame may be.
    (void)::sendto(wire_.get(), frame.bytes.data(), frame.bytes.size(), 0,
                   reinterpret_cast<const sockaddr*>(&end), sizeof(end));
  }
  return next;
}

}  // namespace lifeboat
