#include "criu_glue/anonymous_memory.hpp"

#include <sys/mman.h>

#include <cstdio>

#include "base/file.hpp"

namespace lifeboat {

namespace {

constexpr const char* kName = "/dev/zero";

// Of the kernel's own tmpfs; 0: not known.
dev_t kernels_device() {
  static const dev_t device = [] {
    struct stat info {};
    const auto file = make_anonymous_memory();
    return file && ::fstat(file->get(), &info) == 0 ? info.st_dev : 0;
  }();
  return device;
}

}  // namespace

bool is_anonymous_memory(const std::string& name, const struct stat& info) {
  const bool named = name == kName || name == std::string("/memfd:") + kName;
  return named && S_ISREG(info.st_mode) && info.st_nlink == 0 && info.st_dev == kernels_device();
}

Result<Fd> make_anonymous_memory() {
  Fd fd(::memfd_create(kName, MFD_CLOEXEC));
  if (!fd) return fail_errno("memfd_create");
  return fd;
}

Result<std::string> external_file_name(int fd) {
  constexpr std::size_t kTextMax = 8192;
  TRY(const std::string text, read_file("/proc/self/fdinfo/" + std::to_string(fd), kTextMax));
  const auto at = text.find("mnt_id:");
  unsigned mount = 0;
  struct stat info {};
  if (at == std::string::npos || std::sscanf(text.c_str() + at, "mnt_id: %u", &mount) != 1) {
    return fail(Errc::kSystem, "the kernel does not tell the mount of a descriptor");
  }
  if (::fstat(fd, &info) != 0) return fail_errno("fstat");
  char name[64];
  std::snprintf(name, sizeof name, "file[%x:%llx]", mount, static_cast<unsigned long long>(info.st_ino));
  return name;
}

}  // namespace lifeboat
