// text.hpp - small helpers that every source needs: where it reads, numbers and lines of foreign
// text, and texts made fit for an event. Nothing here fails on garbage: it answers "no".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.hpp"
#include "predictor/event.hpp"

namespace lifeboat::predictor {

// Whose events they are and below which directory the sources read ("": the real root).
struct Place {
  std::string root;
  std::string node;

  [[nodiscard]] std::string path(const std::string& below) const { return root + below; }
  // Names this boot of the node; empty when it cannot be read.
  [[nodiscard]] std::string boot_id() const;
};

// Without what cannot be in an event: control characters become spaces, bytes that are not UTF-8
// become "\xNN", and it ends after kTextMax bytes.
[[nodiscard]] std::string clean(std::string_view text);

// A decimal number that is all of `text`, but for spaces around it.
[[nodiscard]] std::optional<std::uint64_t> whole_number(std::string_view text);
// The same with a fraction, as 1234.56.
[[nodiscard]] std::optional<double> real_number(std::string_view text);
// The digits `text` begins with, as they are.
[[nodiscard]] std::string_view leading_digits(std::string_view text);
// What is between the first `from` and the `to` after it; empty if either is missing.
[[nodiscard]] std::string_view between(std::string_view text, std::string_view from,
                                       std::string_view to);
// ASCII letters only.
[[nodiscard]] std::string lower(std::string_view text);

// Names in a directory, sorted; empty when it cannot be read. At most 65536.
[[nodiscard]] std::vector<std::string> list_directory(const std::string& path);
[[nodiscard]] bool is_directory(const std::string& path);
// A file of sysfs or procfs, trimmed; empty when it cannot be read.
[[nodiscard]] std::string read_value(const std::string& path);
// One that must hold a whole number. kNotFound: not there, or not readable; kProtocol: no number.
Result<std::uint64_t> read_number(const std::string& path);

// Cuts a stream into lines. A line longer than the limit is dropped and counted.
class LineBuffer {
 public:
  static constexpr std::size_t kLineMax = 64 * 1024;

  void add(std::string_view bytes);
  // The complete lines so far, without their newlines.
  [[nodiscard]] std::vector<std::string> take();
  // Lines that were too long since the last call.
  [[nodiscard]] std::uint64_t take_dropped();
  // Bytes of the line that is not complete yet.
  [[nodiscard]] std::size_t waiting() const { return partial_.size(); }

 private:
  std::string partial_;
  std::vector<std::string> lines_;
  std::uint64_t dropped_ = 0;
  bool dropping_ = false;  // inside a line that is too long
};

}  // namespace lifeboat::predictor
