#include "base/notify.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/fd.hpp"

namespace lifeboat {

void notify_service_manager(std::string_view state) {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t size = path == nullptr ? 0 : std::strlen(path);
  if (size == 0 || size >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, path, size);
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';  // an abstract name
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  (void)::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL,
                 reinterpret_cast<const sockaddr*>(&address), length);
}

awaitable<void> feed_watchdog() {
  const char* const pid = std::getenv("WATCHDOG_PID");
  const char* const text = std::getenv("WATCHDOG_USEC");
  const long microseconds = text == nullptr ? 0 : std::strtol(text, nullptr, 10);
  if (microseconds <= 0 || (pid != nullptr && std::atol(pid) != ::getpid())) co_return;
  const Milliseconds interval(std::max(1L, microseconds / 2000));
  for (;;) {
    notify_service_manager("WATCHDOG=1");
    co_await sleep_for(interval);
  }
}

}  // namespace lifeboat
