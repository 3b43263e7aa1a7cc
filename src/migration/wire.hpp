// wire.hpp - the migrations that leave this node, as they share its wires and its freezes.
//
// Each joins as a Stream. Whenever one begins or ends to send, or freezes, all get new limits
// (wire_shares.hpp). And they freeze in turn: containers frozen at once share the wire and the
// processors, so that each stands still for longer, and none is done sooner.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/asio.hpp"
#include "migration/cancellation.hpp"
#include "migration/wire_shares.hpp"

namespace lifeboat {

// Of one node; used from the event loop only. Outlives its streams.
class Wire {
 public:
  explicit Wire(std::size_t frozen_max) : frozen_max_(frozen_max) {}

  // One migration. Leaves when it goes; moved-from it does nothing.
  class Stream {
   public:
    Stream() = default;
    Stream(Stream&& other) noexcept;
    Stream& operator=(Stream&& other) noexcept;
    ~Stream();

    // A round of pre-copy begins or is over.
    void set_sending(bool sending);
    // Bytes per second that it may send now; 0: no limit.
    [[nodiscard]] std::uint64_t limit() const { return member_ ? member_->limit : 0; }
    [[nodiscard]] bool has_turn() const { return member_ && member_->turn; }
    // Waits for a turn to freeze, for at most `limit`. True when there was one at once; when it
    // came only later, has_turn() says so, and another round pays.
    awaitable<bool> take_turn(Milliseconds limit);
    // Waits until it has one. kCancelled, kTimeout.
    awaitable<Status> wait_for_turn(const Cancellation& cancellation, Milliseconds limit);
    void set_frozen();
    // It runs again, or nobody can say when it will: others may freeze.
    void set_thawed();

   private:
    friend class Wire;
    struct Member {
      WireUse use;
      std::function<void(std::uint64_t)> set_limit;  // empty: its pages go through CRIU's images
      std::uint64_t limit = 0;
      bool turn = false;
      bool frozen = false;
    };
    bool try_turn();
    Wire* wire_ = nullptr;
    std::shared_ptr<Member> member_;
  };

  // `set_limit` is called with bytes per second (0: none) until the stream goes.
  [[nodiscard]] Stream join(WireUse use, std::function<void(std::uint64_t)> set_limit);

 private:
  void share();
  std::vector<std::shared_ptr<Stream::Member>> members_;
  std::size_t frozen_max_;
};

}  // namespace lifeboat
