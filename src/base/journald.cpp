#include "base/journald.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <cstring>

#include "base/fd.hpp"
#include "base/little_endian.hpp"

namespace lifeboat {

bool Journald::takes_stderr() {
  const char* const stream = std::getenv("JOURNAL_STREAM");
  struct stat info {};
  if (stream == nullptr || ::fstat(STDERR_FILENO, &info) != 0) return false;
  return std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) == stream;
}

bool Journald::send(const Fields& fields) const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, socket_.data(), socket_.size());
  const Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return false;
  const std::string entry = journald_entry(fields);
  const auto* to = reinterpret_cast<const sockaddr*>(&address);
  return ::sendto(fd.get(), entry.data(), entry.size(), MSG_NOSIGNAL, to, sizeof address) ==
         static_cast<ssize_t>(entry.size());
}

std::string journald_entry(const Journald::Fields& fields) {
  std::string out;
  for (const auto& [name, value] : fields) {
    out += name;
    if (value.find('\n') == std::string::npos) {
      out += '=';
    } else {
      unsigned char length[8];
      put_le(length, std::uint64_t{value.size()});
      out += '\n';
      out.append(reinterpret_cast<const char*>(length), sizeof length);
    }
    out += value;
    out += '\n';
  }
  return out;
}

std::string journald_field(std::string_view key) {
  std::string out = "LIFEBOAT_";
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    out += std::isalnum(byte) != 0 ? static_cast<char>(std::toupper(byte)) : '_';
  }
  return out;
}

}  // namespace lifeboat
