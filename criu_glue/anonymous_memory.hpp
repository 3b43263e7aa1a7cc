// anonymous_memory.hpp - memory that processes share without any name (mmap with MAP_SHARED and MAP_ANONYMOUS). To
// the kernel it is a file of a tmpfs of its own; what CRIU restores of it is a memfd of the same name.
//
// Lifeboat carries it as a file. To CRIU it seems, by what hide_pages.h tells it, a file that is "external": not in
// the images, and at the restore a descriptor that we give it.
#pragma once

#include <sys/stat.h>

#include <string>

#include "base/fd.hpp"
#include "base/result.hpp"

namespace lifeboat {

// More of them in one container CRIU carries: for each it is given a descriptor at the target.
inline constexpr std::size_t kAnonymousFilesMax = 32;

// Whether the file of a mapping (OpenedMapping::name) is such memory.
[[nodiscard]] bool is_anonymous_memory(const std::string& name, const struct stat& info);

// An empty one.
Result<Fd> make_anonymous_memory();

// What CRIU calls an open file that is external: "file[MOUNT:INODE]", in hexadecimal digits. kSystem.
Result<std::string> external_file_name(int fd);

}  // namespace lifeboat
