// yaml_kinds.hpp - what one scalar value of a YAML file may be: text, names, paths, numbers and
// quantities with their unit. A Kind parses the text of the value, or says in words what would have
// been right; Reader makes "expected ..., got ..." of it.
//
// Quantities never go without a unit: "timeout: 30" is what people misread by a factor of 1000.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lifeboat::yaml {

template <class K>
concept Kind = requires(const K& kind, const std::string& text) {
  { kind.expected() } -> std::convertible_to<std::string>;
  { kind.parse(text).has_value() } -> std::convertible_to<bool>;
};

struct Text {
  std::size_t bytes_min = 1;
  std::size_t bytes_max = 4096;
  [[nodiscard]] std::string expected() const;
  [[nodiscard]] std::optional<std::string> parse(const std::string& text) const;
};

// a-z, 0-9 and '-', not first: safe in host names, file names, interfaces and command lines.
struct Name {
  std::size_t bytes_max;
  [[nodiscard]] std::string expected() const;
  [[nodiscard]] std::optional<std::string> parse(const std::string& text) const;
};

// Gives the path without '.', '..' and a trailing '/'. With a `base`, a path that is not absolute
// is taken as below it; without, it is a mistake.
struct Path {
  std::string base = "";
  std::size_t bytes_max = 1024;
  [[nodiscard]] std::string expected() const;
  [[nodiscard]] std::optional<std::string> parse(const std::string& text) const;
};

struct Boolean {
  [[nodiscard]] std::string expected() const { return "true or false"; }
  [[nodiscard]] std::optional<bool> parse(const std::string& text) const;
};

struct Integer {
  std::int64_t min;
  std::int64_t max;
  [[nodiscard]] std::string expected() const;
  [[nodiscard]] std::optional<std::int64_t> parse(const std::string& text) const;
};

// `500ms`, `30s`, `5min`, `1h`.
struct Duration {
  std::chrono::milliseconds min;
  std::chrono::milliseconds max;
  [[nodiscard]] std::string expected() const;
  [[nodiscard]] std::optional<std::chrono::milliseconds> parse(const std::string& text) const;
};

// Bytes, as `4096B`, `512KiB`, `64MiB`, `1GiB`, `1TiB`.
struct Size {
  std::uint64_t min;
  std::uint64_t max;
  [[nodiscard]] std::string expected() const;
  [[nodiscard]] std::optional<std::uint64_t> parse(const std::string& text) const;
};

// Bits per second, as `100Mbit`, `10Gbit`.
struct Rate {
  std::uint64_t min;
  std::uint64_t max;
  [[nodiscard]] std::string expected() const;
  [[nodiscard]] std::optional<std::uint64_t> parse(const std::string& text) const;
};

// One of a few words.
template <class T>
struct Choice {
  std::vector<std::pair<std::string, T>> words;
  [[nodiscard]] std::string expected() const {
    std::string all = "one of";
    for (const auto& [word, value] : words) all += (all.size() > 6 ? ", " : " ") + word;
    return all;
  }
  [[nodiscard]] std::optional<T> parse(const std::string& text) const {
    for (const auto& [word, value] : words) {
      if (word == text) return value;
    }
    return std::nullopt;
  }
};

// Exact, in the largest unit that divides the value: what the kinds above read back.
std::string to_text(std::chrono::milliseconds duration);  // "1500ms", "30s"
std::string size_text(std::uint64_t bytes);               // "64MiB"

}  // namespace lifeboat::yaml
