// peer_gate.hpp - how many connections peers may have and how often they may ask. Pure: no sockets, no clock.
//
// A connection counts as a stranger's until its Hello has been accepted. Strangers have a quarter of
// all places, and an address at most kStrangersPerAddress, so that they cannot keep the cluster's own
// nodes out; and never more than kStrangers: of the thousands of handshakes at once that a head gets when it
// starts none would end in time. What is too many is closed; who asks too often waits.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>

namespace lifeboat {

class PeerGate {
 public:
  struct Limits {
    std::size_t connections = 256;
    std::size_t per_peer = 64;
    double requests_per_s = 200;
  };
  static constexpr std::size_t kStrangersPerAddress = 16;
  static constexpr std::size_t kStrangers = 64;

  // A place; given back when it goes.
  class Pass {
   public:
    Pass(Pass&& other) noexcept;
    Pass& operator=(Pass&&) = delete;
    ~Pass();

   private:
    friend class PeerGate;
    Pass(PeerGate* gate, std::string address) : gate_(gate), address_(std::move(address)) {}
    PeerGate* gate_;
    std::string address_;
    std::string node_;  // empty: a stranger
  };

  explicit PeerGate(Limits limits) : limits_(limits) {}

  // For a connection that has just been accepted; nothing: there is no place for it.
  [[nodiscard]] std::optional<Pass> enter(const std::string& address);
  // It is `node`'s. False when that node has too many.
  [[nodiscard]] bool admit(Pass& pass, const std::string& node);
  // Counts a request at `now_s` (of a steady clock); how many seconds it must wait. As many as are allowed
  // in a second come at once.
  [[nodiscard]] double delay_s(const std::string& node, double now_s);

  [[nodiscard]] std::size_t connections() const { return connections_; }

 private:
  void leave(const Pass& pass);

  Limits limits_;
  std::size_t connections_ = 0;
  std::size_t strangers_ = 0;
  std::map<std::string, std::size_t> by_address_;  // strangers
  std::map<std::string, std::size_t> by_node_;
  std::map<std::string, double> free_at_s_;  // when all earlier requests are paid for; nodes of the cluster
};

}  // namespace lifeboat
