#include "base/yaml_kinds.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <limits>
#include <span>
#include <string_view>

namespace lifeboat::yaml {

namespace {

struct Unit {
  const char* name;
  std::uint64_t factor;
};

constexpr std::array kTimeUnits = {Unit{"h", 3'600'000}, Unit{"min", 60'000}, Unit{"s", 1000},
                                   Unit{"ms", 1}};
constexpr std::array kSizeUnits = {Unit{"TiB", 1ull << 40}, Unit{"GiB", 1ull << 30},
                                   Unit{"MiB", 1ull << 20}, Unit{"KiB", 1ull << 10}, Unit{"B", 1}};
constexpr std::array kRateUnits = {Unit{"Gbit", 1'000'000'000}, Unit{"Mbit", 1'000'000}};

template <class T>
std::optional<T> whole_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_units(std::string_view text, std::span<const Unit> units,
                                         std::uint64_t min, std::uint64_t max) {
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = whole_number<std::uint64_t>(text.substr(0, digits));
  for (const Unit& unit : units) {
    if (!number || text.substr(digits) != unit.name) continue;
    if (*number > std::numeric_limits<std::uint64_t>::max() / unit.factor) return std::nullopt;
    const std::uint64_t value = *number * unit.factor;
    return value >= min && value <= max ? std::optional(value) : std::nullopt;
  }
  return std::nullopt;
}

std::string unit_text(std::uint64_t value, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (value != 0 && value % unit.factor == 0) {
      return std::to_string(value / unit.factor) + unit.name;
    }
  }
  return std::to_string(value / units.back().factor) + units.back().name;
}

// "a size from 16MiB to 1TiB (unit B, KiB, MiB, GiB or TiB)"
std::string expected_units(const char* what, std::span<const Unit> units, std::uint64_t min,
                           std::uint64_t max) {
  std::string names;
  for (std::size_t i = units.size(); i-- > 0;) {
    names += units[i].name;
    if (i > 0) names += i == 1 ? " or " : ", ";
  }
  return std::string(what) + " from " + unit_text(min, units) + " to " + unit_text(max, units) +
         " (unit " + names + ")";
}

std::uint64_t ms(std::chrono::milliseconds duration) {
  return static_cast<std::uint64_t>(duration.count());
}

}  // namespace

std::string Text::expected() const {
  if (bytes_min == 0) return "text of at most " + std::to_string(bytes_max) + " bytes (none: '')";
  return "text of " + std::to_string(bytes_min) + " to " + std::to_string(bytes_max) + " bytes";
}
std::optional<std::string> Text::parse(const std::string& text) const {
  if (text.size() < bytes_min || text.size() > bytes_max) return std::nullopt;
  return text;
}

std::string Name::expected() const {
  return "a name of 1 to " + std::to_string(bytes_max) + " characters a-z, 0-9 or '-' (not first)";
}
std::optional<std::string> Name::parse(const std::string& text) const {
  const bool good =
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
  if (!good || text.empty() || text.size() > bytes_max || text[0] == '-') return std::nullopt;
  return text;
}

std::string Path::expected() const {
  return std::string(base.empty() ? "an absolute path" : "a path") + " of at most " +
         std::to_string(bytes_max) + " bytes";
}
std::optional<std::string> Path::parse(const std::string& text) const {
  if (text.empty() || (base.empty() && text[0] != '/')) return std::nullopt;
  std::string path = (std::filesystem::path(base) / text).lexically_normal().string();
  if (path.starts_with("//")) path.erase(0, 1);
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (path.size() > bytes_max) return std::nullopt;
  return path;
}

std::optional<bool> Boolean::parse(const std::string& text) const {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::string Integer::expected() const {
  return "an integer from " + std::to_string(min) + " to " + std::to_string(max);
}
std::optional<std::int64_t> Integer::parse(const std::string& text) const {
  const auto value = whole_number<std::int64_t>(text);
  return value && *value >= min && *value <= max ? value : std::nullopt;
}

std::string Duration::expected() const {
  return expected_units("a duration", kTimeUnits, ms(min), ms(max));
}
std::optional<std::chrono::milliseconds> Duration::parse(const std::string& text) const {
  const auto value = parse_units(text, kTimeUnits, ms(min), ms(max));
  if (!value) return std::nullopt;
  return std::chrono::milliseconds(*value);
}

std::string Size::expected() const {
  return expected_units("a size", kSizeUnits, min, max);
}
std::optional<std::uint64_t> Size::parse(const std::string& text) const {
  return parse_units(text, kSizeUnits, min, max);
}

std::string Rate::expected() const {
  return expected_units("a rate", kRateUnits, min, max);
}
std::optional<std::uint64_t> Rate::parse(const std::string& text) const {
  return parse_units(text, kRateUnits, min, max);
}

std::string to_text(std::chrono::milliseconds duration) {
  return unit_text(ms(duration), kTimeUnits);
}
std::string size_text(std::uint64_t bytes) {
  return unit_text(bytes, kSizeUnits);
}

}  // namespace lifeboat::yaml
