// file.hpp - whole small files: read with a limit, replaced atomically.
#pragma once

#include <string>

#include "base/result.hpp"

namespace lifeboat {

// The contents, at most `limit` bytes (more is an error naming the file).
Result<std::string> read_file(const std::string& path, std::size_t limit = 1 << 20);
// Writes a temporary file beside it, syncs and renames: readers see the old or the new text.
Status replace_file(const std::string& path, const std::string& text);
// One write(2) to an existing file (sysfs, cgroupfs, procfs).
Status write_value(const std::string& path, const std::string& value);
// mkdir -p with mode 0700 for what is made.
Status make_directories(const std::string& path);
// Removes a directory tree but never crosses into another file system mounted below it.
Status remove_tree(const std::string& path);

}  // namespace lifeboat
