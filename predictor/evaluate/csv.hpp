// csv.hpp - lines and comma-separated fields of a text, without copying. No quoting: none of our
// formats has it.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace lifeboat::predictor {

// Calls `body(line, number from 1)` for each line, without its end.
template <class Body>
void each_line(std::string_view text, const Body& body) {
  std::size_t number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    body(line, ++number);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
}

inline void split_fields(std::string_view line, char separator,
                         std::vector<std::string_view>& fields) {
  fields.clear();
  for (;;) {
    const std::size_t end = line.find(separator);
    fields.push_back(line.substr(0, end));
    if (end == std::string_view::npos) return;
    line.remove_prefix(end + 1);
  }
}

inline constexpr std::int64_t kIntegerEnd = 1'000'000'000'000;

// A whole number of at most 12 digits: the formats have seconds since 1970, and microseconds of
// them must not overflow.
inline std::optional<std::int64_t> to_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  if (value <= -kIntegerEnd || value >= kIntegerEnd) return std::nullopt;
  return value;
}

}  // namespace lifeboat::predictor
