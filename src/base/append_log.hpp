// append_log.hpp - a file of JSON objects, one a line, that only grows: a journal.
//
// A crash leaves at most the beginning of the last line, which counts as never written; other lines that
// cannot be read are skipped and counted. Beyond `bytes_max` the file is renamed to PATH.1 (the older
// PATH.1 goes), so the two together are bounded.
#pragma once

#include <functional>
#include <string>

#include "base/fd.hpp"
#include "base/json.hpp"

namespace lifeboat {

class AppendLog {
 public:
  // Opens or creates it; `each` gets every line there is, oldest first. kSystem: it cannot be used.
  static Result<AppendLog> open(std::string path, std::size_t bytes_max,
                                const std::function<void(json::object)>& each);

  // One line. `sync`: returns once it is on disk.
  Status append(const json::object& line, bool sync);
  [[nodiscard]] std::size_t unreadable() const { return unreadable_; }

 private:
  AppendLog(std::string path, std::size_t bytes_max) : path_(std::move(path)), bytes_max_(bytes_max) {}
  Status open_file();
  Status read(const std::string& path, const std::function<void(json::object)>& each);

  std::string path_;
  std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::size_t unreadable_ = 0;
  Fd file_;
};

}  // namespace lifeboat
