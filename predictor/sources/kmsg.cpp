#include "predictor/sources/kmsg.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/json.hpp"
#include "predictor/sources/kernel_text.hpp"

namespace lifeboat::predictor {
namespace {

// Of one poll: the rest waits for the next.
constexpr std::size_t kRecordsMax = 8192;
// A record has at most 8 KiB (CONSOLE_EXT_LOG_MAX); the kernel refuses smaller buffers by EINVAL.
constexpr std::size_t kRecordBytes = 64 * 1024;

// The kernel writes what is not printable, and the backslash, as \xNN.
std::string unescaped(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    unsigned value = 0;
    if (text.size() >= 4 && text.starts_with("\\x") &&
        std::from_chars(text.data() + 2, text.data() + 4, value, 16).ptr == text.data() + 4) {
      out += static_cast<char>(value);
      text.remove_prefix(4);
    } else {
      out += text[0];
      text.remove_prefix(1);
    }
  }
  return out;
}

}  // namespace

Result<KmsgRecord> parse_kmsg_record(std::string_view record) {
  const auto semicolon = record.find(';');
  if (semicolon == std::string_view::npos) return fail(Errc::kProtocol, "a record without ';'");
  // Later kernels may add fields before the semicolon.
  const auto fields = split(record.substr(0, semicolon), ',');
  if (fields.size() < 4) return fail(Errc::kProtocol, "a record with too few fields");
  const auto prefix = whole_number(fields[0]);
  const auto sequence = whole_number(fields[1]);
  const auto usec = whole_number(fields[2]);
  if (!prefix || *prefix > 1023 || !sequence || !usec) {
    return fail(Errc::kProtocol, "a record whose prefix is not numbers");
  }
  KmsgRecord out;
  out.facility = static_cast<unsigned>(*prefix >> 3);
  out.priority = static_cast<unsigned>(*prefix & 7);
  out.sequence = *sequence;
  out.since_boot_us = *usec;
  out.continues = fields[3] == "c" || fields[3] == "+";
  const auto lines = split(record.substr(semicolon + 1), '\n');
  out.text = unescaped(lines[0]);
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const auto equals = lines[i].find('=');
    if (!lines[i].starts_with(' ') || equals == std::string_view::npos) continue;
    out.values.emplace_back(lines[i].substr(1, equals - 1), unescaped(lines[i].substr(equals + 1)));
  }
  return out;
}

KmsgSource::KmsgSource(Place place, KmsgOptions options)
    : place_(std::move(place)), options_(std::move(options)) {}

Status KmsgSource::open() {
  const std::string path = place_.path(options_.file);
  fd_ = Fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fd_ && errno == ENOENT) return fail(Errc::kNotFound, "there is no " + path);
  if (!fd_) return fail_errno("open " + path);
  struct stat about {};
  if (::fstat(fd_.get(), &about) != 0) return fail_errno("stat " + path);
  is_device_ = S_ISCHR(about.st_mode);
  return {};
}

Status KmsgSource::read_device(std::vector<std::string>& records) {
  std::string buffer(kRecordBytes, '\0');
  while (records.size() < kRecordsMax) {
    const ssize_t n = ::read(fd_.get(), buffer.data(), buffer.size());
    if (n > 0) {
      records.emplace_back(buffer, 0, static_cast<std::size_t>(n));
    } else if (n == 0 || errno == EAGAIN) {
      return {};
    } else if (errno != EINTR && errno != EPIPE) {  // EPIPE: overwritten, the numbers will show it
      return fail_errno("read " + place_.path(options_.file));
    }
  }
  return {};
}

Status KmsgSource::read_records(std::vector<std::string>& records) {
  if (is_device_) return read_device(records);
  std::array<char, 16 * 1024> chunk;
  for (std::size_t total = 0; total < (1 << 20);) {
    const ssize_t n = ::read(fd_.get(), chunk.data(), chunk.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return fail_errno("read " + place_.path(options_.file));
    if (n <= 0) break;
    lines_.add({chunk.data(), static_cast<std::size_t>(n)});
    total += static_cast<std::size_t>(n);
  }
  for (const std::string& line : lines_.take()) {
    if (line.starts_with(' ') && !records.empty()) {
      records.back() += "\n" + line;
    } else {
      records.push_back(line);
    }
  }
  return {};
}

// When the node was booted, in wall-clock time. Kept until the clock is set: taken anew at each
// poll, the records' times would jitter by the resolution of /proc/uptime.
Status KmsgSource::find_boot_time(Time now) {
  const std::string uptime = read_value(place_.path("/proc/uptime"));
  const auto seconds = real_number(uptime.substr(0, uptime.find(' ')));
  constexpr double kCentury = 3.2e9;
  if (!seconds || *seconds < 0 || *seconds > kCentury) {
    return fail(Errc::kProtocol, place_.path("/proc/uptime") + " holds no time");
  }
  const Time boot =
      now - std::chrono::duration_cast<Duration>(std::chrono::duration<double>(*seconds));
  if (std::chrono::abs(boot - boot_time_) > std::chrono::seconds(1)) boot_time_ = boot;
  return {};
}

void KmsgSource::take(const KmsgRecord& record, Time now, std::vector<Event>& events) {
  // A file that is read again from its start, or the ring after a restart.
  if (sequence_ && record.sequence <= *sequence_) return;
  Event event;
  event.node = place_.node;
  event.source = name();
  event.time = std::min(now, boot_time_ + Duration(std::min<std::uint64_t>(
                                              record.since_boot_us, 3'200'000'000'000'000)));
  if (sequence_ && record.sequence > *sequence_ + 1 && is_device_) {
    Event lost = event;
    lost.severity = Severity::kNotice;
    lost.count = record.sequence - *sequence_ - 1;
    lost.text = "kernel records were overwritten before they could be read";
    events.push_back(std::move(lost));
  }
  sequence_ = record.sequence;
  const bool ours = record.facility == 0 || (options_.user_records && record.facility == 1);
  if (record.continues && last_was_ours_ && ours && !events.empty()) {
    Event& before = events.back();
    before.text = clean(before.text + record.text);
    classify_kernel_text(before);
    return;
  }
  last_was_ours_ = ours;
  if (!ours) return;
  event.severity = severity_of_priority(record.priority);
  event.text = clean(record.text);
  for (const auto& [key, value] : record.values) {
    event.details.emplace_back(lower(clean(key)), clean(value));
  }
  classify_kernel_text(event);
  events.push_back(std::move(event));
}

Result<std::vector<Event>> KmsgSource::poll(Time now) {
  if (!fd_) CHECK_OK(open());
  CHECK_OK(find_boot_time(now));
  std::vector<std::string> records;
  if (auto read = read_records(records); !read && records.empty()) {
    fd_.reset();
    return tl::unexpected<Error>(read.error());
  }
  std::vector<Event> events;
  last_was_ours_ = false;
  std::size_t bad = lines_.take_dropped();
  for (const std::string& text : records) {
    if (const auto record = parse_kmsg_record(text)) {
      take(*record, now, events);
    } else {
      ++bad;
    }
  }
  if (bad > 0 && events.empty()) {
    return fail(Errc::kProtocol, place_.path(options_.file) + ": " + std::to_string(bad) +
                                     " lines that are no kernel records");
  }
  return events;
}

std::string KmsgSource::save() const {
  if (!sequence_) return {};
  return json::serialize(json::object{{"boot", place_.boot_id()}, {"sequence", *sequence_}});
}

void KmsgSource::restore(const std::string& saved) {
  const auto object = parse_object(saved);
  if (!object || string_or(*object, "boot") != place_.boot_id()) return;
  if (const auto sequence = get_u64(*object, "sequence")) sequence_ = *sequence;
}

}  // namespace lifeboat::predictor
