// journald.hpp - systemd's journal, spoken to in its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL):
// one datagram per entry, each field by itself.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lifeboat {

class Journald {
 public:
  using Fields = std::vector<std::pair<std::string, std::string>>;

  // Whether standard error of this process is the journal's (JOURNAL_STREAM in its environment).
  [[nodiscard]] static bool takes_stderr();

  explicit Journald(std::string socket = "/run/systemd/journal/socket") : socket_(std::move(socket)) {}
  // Whether it was taken; never waits. An entry larger than a datagram may be is not.
  [[nodiscard]] bool send(const Fields& fields) const;

 private:
  std::string socket_;
};

// "PRIORITY=4\n..."; values with line breaks by their length. Pure.
[[nodiscard]] std::string journald_entry(const Journald::Fields& fields);
// As the name of a field: "paths.run_dir" is LIFEBOAT_PATHS_RUN_DIR. Pure.
[[nodiscard]] std::string journald_field(std::string_view key);

}  // namespace lifeboat
