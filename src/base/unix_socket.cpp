#include "base/unix_socket.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace lifeboat {
namespace {

constexpr int kBacklog = 64;

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail(Errc::kInvalid, path + " is too long for a socket");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace

Result<Fd> listen_at(const std::string& path, int type) {
  TRY(const sockaddr_un address, address_of(path));
  Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  ::unlink(path.c_str());
  if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0600) != 0 || ::listen(socket.get(), kBacklog) != 0) {
    return fail_errno("listen at " + path);
  }
  return socket;
}

Result<Fd> connect_at(const std::string& path, int type) {
  TRY(const sockaddr_un address, address_of(path));
  Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno("a socket for " + path);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail(Errc::kUnavailable, "nobody answers at " + path + ": " + std::strerror(errno));
  }
  return socket;
}

}  // namespace lifeboat
