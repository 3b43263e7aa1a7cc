#include "predictor/sources/text.hpp"

#include <dirent.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <memory>
#include <utility>

#include "base/file.hpp"

namespace lifeboat::predictor {
namespace {

constexpr std::size_t kEntriesMax = 65536;

// Length of the UTF-8 sequence that `text` begins with; 0 if it is none. Overlong forms and
// surrogates are none: JSON readers refuse them.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f)) return 0;
  if ((first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) > 0x8f)) return 0;
  return length;
}

std::string hex_escape(char c) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  const auto value = static_cast<unsigned char>(c);
  return {'\\', 'x', kDigits[value >> 4], kDigits[value & 15]};
}

}  // namespace

std::string Place::boot_id() const { return read_value(path("/proc/sys/kernel/random/boot_id")); }

std::string clean(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    std::string piece(text.substr(0, std::max<std::size_t>(length, 1)));
    if (length == 0) piece = hex_escape(text[0]);
    if (length == 1 && (text[0] < ' ' || text[0] == 0x7f)) piece = " ";
    if (out.size() + piece.size() > kTextMax) break;
    out += piece;
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return std::string(trimmed(out));
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
  text = trimmed(text);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> real_number(std::string_view text) {
  text = trimmed(text);
  double value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

std::string_view leading_digits(std::string_view text) {
  const auto end = text.find_first_not_of("0123456789");
  return text.substr(0, end);
}

std::string_view between(std::string_view text, std::string_view from, std::string_view to) {
  const auto start = text.find(from);
  if (start == std::string_view::npos) return {};
  text.remove_prefix(start + from.size());
  const auto end = text.find(to);
  return end == std::string_view::npos ? std::string_view{} : text.substr(0, end);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::vector<std::string> list_directory(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (!directory) return names;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (names.size() == kEntriesMax) break;
    names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool is_directory(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

std::string read_value(const std::string& path) {
  const auto text = read_file(path, 64 * 1024);
  return text ? std::string(trimmed(*text)) : std::string();
}

Result<std::uint64_t> read_number(const std::string& path) {
  const auto text = read_file(path, 4096);
  if (!text && text.error().code != Errc::kInvalid) {
    return fail(Errc::kNotFound, text.error().message);
  }
  const auto value = whole_number(text.value_or(""));
  if (!value) return fail(Errc::kProtocol, path + " holds no number");
  return *value;
}

void LineBuffer::add(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    if (!dropping_ && partial_.size() + piece.size() > kLineMax) {
      dropping_ = true;
      ++dropped_;
      partial_.clear();
    }
    if (!dropping_) partial_ += piece;
    if (end == std::string_view::npos) return;
    if (!dropping_) lines_.push_back(std::exchange(partial_, {}));
    dropping_ = false;
    bytes.remove_prefix(end + 1);
  }
}

std::vector<std::string> LineBuffer::take() { return std::exchange(lines_, {}); }

std::uint64_t LineBuffer::take_dropped() { return std::exchange(dropped_, 0); }

}  // namespace lifeboat::predictor
