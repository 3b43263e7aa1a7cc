#include "base/log.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "base/journald.hpp"

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

// As systemd's journal counts them (sd-daemon(3)).
enum class Level { kError = 3, kWarn = 4, kInfo = 6, kDebug = 7 };

const char* to_string(Level level) {
  switch (level) {
    case Level::kError: return "error";
    case Level::kWarn: return "warn";
    case Level::kInfo: return "info";
    case Level::kDebug: return "debug";
  }
  return "";
}

std::string stamped(Level level, const std::string& said) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  localtime_r(&now.tv_sec, &parts);
  char stamp[32];
  const std::size_t length = std::strftime(stamp, sizeof stamp, "%H:%M:%S", &parts);
  char millis[32];
  std::snprintf(millis, sizeof millis, ".%03ld", now.tv_nsec / 1'000'000);
  return std::string(stamp, length).append(millis).append(" ").append(to_string(level)).append(" ") + said + "\n";
}

// Whether journald took it at once, as an entry or else as a line: the socket for entries may be gone, or one be too
// large for a datagram.
bool journal_takes(Level level, const std::string& said, Journald::Fields more = {}) {
  Journald::Fields entry{{"MESSAGE", said},
                         {"PRIORITY", std::to_string(static_cast<int>(level))},
                         {"SYSLOG_IDENTIFIER", program_invocation_short_name}};
  entry.insert(entry.end(), more.begin(), more.end());
  if (Journald().send(entry)) return true;
  const std::string text = stamped(level, said);
  return ::send(STDERR_FILENO, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL) ==
         static_cast<ssize_t>(text.size());
}

// A journald that hangs, as it does with its disk, holds up nobody: what it does not take is lost, and counted.
void to_journal(Level level, const Event* event, const std::string& said, std::initializer_list<Field> fields) {
  static std::atomic<std::uint64_t> lost{0};
  Journald::Fields more;
  if (event != nullptr) {
    more.emplace_back("MESSAGE_ID", event->id);
    more.emplace_back("LIFEBOAT_EVENT", event->name);
  }
  for (const auto& [key, value] : fields) more.emplace_back(journald_field(key), value);
  const std::uint64_t before = lost.exchange(0);
  if (before > 0 && !journal_takes(Level::kWarn, std::to_string(before) + " lines before this one are lost: journald "
                                                                          "did not take them")) {
    lost += before + 1;
  } else if (!journal_takes(level, said, std::move(more))) {
    ++lost;
  }
}

void line(Level level, const Event* event, std::string_view what, std::initializer_list<Field> fields) {
  static const bool journal = Journald::takes_stderr();
  std::string said(what);
  for (const auto& [key, value] : fields) {
    said.append(" ").append(key).append("=").append(quoted(value));
  }
  if (journal) return to_journal(level, event, said, fields);
  const std::string text = stamped(level, said);
  // One write(2): lines of several processes in one file do not mix.
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace

void error(std::string_view what, std::initializer_list<Field> fields) {
  line(Level::kError, nullptr, what, fields);
}
void warn(std::string_view what, std::initializer_list<Field> fields) {
  line(Level::kWarn, nullptr, what, fields);
}
void info(std::string_view what, std::initializer_list<Field> fields) {
  line(Level::kInfo, nullptr, what, fields);
}
void error(const Event& event, std::string_view what, std::initializer_list<Field> fields) {
  line(Level::kError, &event, what, fields);
}
void warn(const Event& event, std::string_view what, std::initializer_list<Field> fields) {
  line(Level::kWarn, &event, what, fields);
}
void info(const Event& event, std::string_view what, std::initializer_list<Field> fields) {
  line(Level::kInfo, &event, what, fields);
}
void debug(std::string_view what, std::initializer_list<Field> fields) {
  static const bool enabled = std::getenv("LIFEBOAT_DEBUG") != nullptr;
  if (enabled) line(Level::kDebug, nullptr, what, fields);
}

}  // namespace lifeboat::log
