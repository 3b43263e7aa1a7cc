#include "base/log.hpp"

#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace lifeboat::log {
namespace {

// A value with spaces or quotes is quoted, newlines become "\n": one fact stays one line.
std::string quoted(const std::string& value) {
  if (!value.empty() && value.find_first_of(" \"\n\t=") == std::string::npos) return value;
  std::string out = "\"";
  for (char c : value) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

void line(const char* level, std::string_view what, std::initializer_list<Field> fields) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  localtime_r(&now.tv_sec, &parts);
  char stamp[32];
  const std::size_t length = std::strftime(stamp, sizeof stamp, "%H:%M:%S", &parts);
  std::string text(stamp, length);
  char millis[32];
  std::snprintf(millis, sizeof millis, ".%03ld", now.tv_nsec / 1'000'000);
  text.append(millis).append(" ").append(level).append(" ").append(what);
  for (const auto& [key, value] : fields) {
    text.append(" ").append(key).append("=").append(quoted(value));
  }
  text += '\n';
  // One write(2): lines of several processes in one file do not mix.
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace

void error(std::string_view what, std::initializer_list<Field> fields) {
  line("error", what, fields);
}
void warn(std::string_view what, std::initializer_list<Field> fields) {
  line("warn", what, fields);
}
void info(std::string_view what, std::initializer_list<Field> fields) {
  line("info", what, fields);
}
void debug(std::string_view what, std::initializer_list<Field> fields) {
  static const bool enabled = std::getenv("LIFEBOAT_DEBUG") != nullptr;
  if (enabled) line("debug", what, fields);
}

}  // namespace lifeboat::log
