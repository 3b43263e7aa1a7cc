#include "migration/sent_bytes.hpp"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <utility>

namespace lifeboat {

namespace {

std::uint64_t acknowledged_of(int socket) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
  return size >= offsetof(tcp_info, tcpi_bytes_received) ? info.tcpi_bytes_acked : 0;
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
