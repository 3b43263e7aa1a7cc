#include "migration/page_reader.hpp"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace lifeboat {

Status PageReader::read(const std::vector<PagePiece>& pieces, unsigned char* out,
                        std::vector<bool>& read) {
  std::vector<iovec> remote;
  remote.reserve(pieces.size());
  std::size_t total = 0;
  for (const PagePiece& piece : pieces) {
    remote.push_back({reinterpret_cast<void*>(piece.address), piece.pages * kPageBytes});
    total += piece.pages * kPageBytes;
  }
  const iovec local{out, total};
  const ssize_t n = ::process_vm_readv(pid_, &local, 1, remote.data(), remote.size(), 0);
  const std::size_t good = n < 0 ? 0 : static_cast<std::size_t>(n) / kPageBytes;
  read.assign(total / kPageBytes, false);
  std::fill(read.begin(), read.begin() + static_cast<std::ptrdiff_t>(good), true);
  if (good == read.size()) return {};
  std::size_t index = 0;
  for (const PagePiece& piece : pieces) {
    for (std::uint32_t i = 0; i < piece.pages; ++i, ++index) {
      if (read[index]) continue;
      TRY(const bool one, read_one(piece.address + i * kPageBytes, out + index * kPageBytes));
      read[index] = one;
    }
  }
  return {};
}

Result<bool> PageReader::read_one(std::uint64_t address, unsigned char* out) {
  const iovec local{out, kPageBytes};
  const iovec remote{reinterpret_cast<void*>(address), kPageBytes};
  if (::process_vm_readv(pid_, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(kPageBytes)) {
    return true;
  }
  if (!mem_) {
    const std::string path = "/proc/" + std::to_string(pid_) + "/mem";
    mem_ = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!mem_ && (errno == ENOENT || errno == ESRCH)) return false;
    if (!mem_) return fail(Errc::kUnavailable, fail_errno("open " + path).value().message);
  }
  return ::pread(mem_.get(), out, kPageBytes, static_cast<off_t>(address)) ==
                     static_cast<ssize_t>(kPageBytes);
}

bool is_zero_page(const unsigned char* page) {
  // Most pages show in their first word that they are none. Blocks of 256 bytes become vector code.
  constexpr std::size_t kWords = 32;
  std::uint64_t words[kWords];
  std::memcpy(words, page, sizeof words[0]);
  if (words[0] != 0) return false;
  for (std::size_t at = 0; at < kPageBytes; at += sizeof words) {
    std::memcpy(words, page + at, sizeof words);
    std::uint64_t any = 0;
    for (std::size_t i = 0; i < kWords; ++i) any |= words[i];
    if (any != 0) return false;
  }
  return true;
}

}  // namespace lifeboat
