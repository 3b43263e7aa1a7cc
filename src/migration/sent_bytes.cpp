#include "migration/sent_bytes.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <utility>

namespace lifeboat {

namespace {

std::uint64_t acknowledged_of(int socket) {
  // tcpi_bytes_acked of the kernel's struct tcp_info (include/uapi/linux/tcp.h), which is longer than the C library's.
  constexpr std::size_t kAt = 120;
  std::uint64_t bytes = 0;
  std::array<unsigned char, kAt + sizeof bytes> info{};
  socklen_t size = sizeof info;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, info.data(), &size) != 0 || size < sizeof info) return 0;
  std::memcpy(&bytes, info.data() + kAt, sizeof bytes);
  return bytes;
}

}  // namespace

SentBytes::Connection::Connection(std::shared_ptr<SentBytes> counted_in, int socket)
    : counted_in_(std::move(counted_in)), socket_(socket), before_(acknowledged_of(socket)) {
  const std::lock_guard lock(counted_in_->mutex_);
  counted_in_->connections_.insert(this);
}

SentBytes::Connection::~Connection() {
  const std::lock_guard lock(counted_in_->mutex_);
  counted_in_->connections_.erase(this);
  counted_in_->ended_ += acknowledged();
}

std::uint64_t SentBytes::Connection::acknowledged() const {
  const std::uint64_t now = acknowledged_of(socket_);
  return now > before_ ? now - before_ : 0;
}

void SentBytes::add(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  ended_ += bytes;
}

std::uint64_t SentBytes::total() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t bytes = ended_;
  for (const Connection* connection : connections_) bytes += connection->acknowledged();
  return bytes;
}

}  // namespace lifeboat
