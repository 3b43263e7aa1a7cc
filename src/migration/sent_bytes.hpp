// sent_bytes.hpp - how many bytes of a migration the other end has.
//
// What a socket took is not sent yet: its buffer holds megabytes, which over a slow wire are seconds. So TCP
// connections are asked what was acknowledged (tcp(7), TCP_INFO).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>

namespace lifeboat {

class SentBytes {
 public:
  // A connection that is counted until this object is gone, which must be before its socket is closed.
  class Connection {
   public:
    Connection(std::shared_ptr<SentBytes> counted_in, int socket);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection();

   private:
    friend class SentBytes;
    // Since it is counted; 0 of a socket that is none of TCP.
    [[nodiscard]] std::uint64_t acknowledged() const;

    std::shared_ptr<SentBytes> counted_in_;
    int socket_;
    std::uint64_t before_ = 0;
  };

  // Bytes whose way is not followed.
  void add(std::uint64_t bytes);
  [[nodiscard]] std::uint64_t total() const;

 private:
  mutable std::mutex mutex_;
  std::set<const Connection*> connections_;
  std::uint64_t ended_ = 0;  // of those that are counted no more
};

}  // namespace lifeboat
