#include "peer_gate.hpp"

#include <algorithm>
#include <utility>

namespace lifeboat {

namespace {

void subtract(std::map<std::string, std::size_t>& counts, const std::string& key) {
  const auto at = counts.find(key);
  if (--at->second == 0) counts.erase(at);
}

}  // namespace

PeerGate::Pass::Pass(Pass&& other) noexcept
    : gate_(std::exchange(other.gate_, nullptr)),
      address_(std::move(other.address_)),
      node_(std::move(other.node_)) {}

PeerGate::Pass::~Pass() {
  if (gate_ != nullptr) gate_->leave(*this);
}

std::optional<PeerGate::Pass> PeerGate::enter(const std::string& address) {
  const auto at = by_address_.find(address);
  const std::size_t same = at == by_address_.end() ? 0 : at->second;
  const std::size_t strangers_max = std::clamp<std::size_t>(limits_.connections / 4, 1, kStrangers);
  if (connections_ >= limits_.connections || strangers_ >= strangers_max || same >= kStrangersPerAddress) {
    return std::nullopt;
  }
  ++connections_;
  ++strangers_;
  ++by_address_[address];
  return Pass(this, address);
}

bool PeerGate::admit(Pass& pass, const std::string& node) {
  if (by_node_[node] >= limits_.per_peer) return false;
  ++by_node_[node];
  --strangers_;
  subtract(by_address_, pass.address_);
  pass.node_ = node;
  return true;
}

void PeerGate::leave(const Pass& pass) {
  --connections_;
  if (!pass.node_.empty()) {
    subtract(by_node_, pass.node_);
    return;
  }
  --strangers_;
  subtract(by_address_, pass.address_);
}

double PeerGate::delay_s(const std::string& node, double now_s) {
  // The generic cell rate algorithm (ITU-T I.371) with a burst of one second.
  double& free_at = free_at_s_[node];
  free_at = std::max(free_at, now_s) + 1 / limits_.requests_per_s;
  return std::max(0.0, free_at - now_s - 1);
}

}  // namespace lifeboat
