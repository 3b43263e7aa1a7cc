#include "predictor/sources/disk_health.hpp"

#include <algorithm>
#include <array>

#include "base/json.hpp"

namespace lifeboat::predictor {
namespace {

// The bits of NVMe's critical_warning (NVM Express Base Specification, SMART / Health log).
constexpr std::array<std::string_view, 6> kWarnings{
    "spare space is low",  "temperature is beyond a threshold", "reliability is degraded",
    "it is read-only now", "the backup of volatile memory has failed",
    "persistent memory is read-only or unreliable"};

// ATA attributes whose raw value counts errors.
struct Attribute {
  std::uint64_t id;
  const char* name;
};
constexpr std::array<Attribute, 6> kAttributes{{{5, "reallocated_sectors"},
                                                {187, "reported_uncorrectable"},
                                                {188, "command_timeouts"},
                                                {197, "pending_sectors"},
                                                {198, "offline_uncorrectable"},
                                                {199, "crc_errors"}}};

const json::object* object_in(const json::object& object, std::string_view key) {
  const auto found = get_object(object, key);
  return found ? *found : nullptr;
}

std::uint64_t number_in(const json::object& object, std::string_view key) {
  return get_u64(object, key).value_or(0);
}

void read_nvme(const json::object& log, std::string_view spare, std::string_view threshold,
               std::string_view used, DiskHealth& out) {
  const std::uint64_t bits = number_in(log, "critical_warning");
  for (std::size_t bit = 0; bit < kWarnings.size(); ++bit) {
    if ((bits >> bit & 1) == 0) continue;
    out.conditions.push_back(
        {bit == 1 ? Severity::kWarning : Severity::kCritical, std::string(kWarnings[bit])});
  }
  if (number_in(log, spare) < number_in(log, threshold) && (bits & 1) == 0) {
    out.conditions.push_back({Severity::kError, std::string(kWarnings[0])});
  }
  if (number_in(log, used) >= 100) {
    out.conditions.push_back({Severity::kNotice, "its rated endurance is used up"});
  }
  out.counters.emplace_back("media_errors", number_in(log, "media_errors"));
}

void read_attributes(const json::object& report, DiskHealth& out) {
  const json::object* attributes = object_in(report, "ata_smart_attributes");
  if (attributes == nullptr) return;
  const auto table = get_array(*attributes, "table");
  if (!table) return;
  for (const json::value& item : **table) {
    if (!item.is_object()) continue;
    const std::uint64_t id = number_in(item.get_object(), "id");
    const json::object* raw = object_in(item.get_object(), "raw");
    const auto known = std::find_if(kAttributes.begin(), kAttributes.end(),
                                    [&](const Attribute& a) { return a.id == id; });
    if (raw == nullptr || known == kAttributes.end()) continue;
    const auto value = get_u64(*raw, "value");
    if (!value) continue;
    // Some vendors put several 16-bit counts into these; the lowest is the sum that is meant.
    constexpr std::uint64_t kLow = 0xffff;
    out.counters.emplace_back(known->name, id == 188 ? *value & kLow : *value);
  }
}

}  // namespace

Result<DiskHealth> parse_smartctl(std::string_view text) {
  auto parsed = parse_object(text);
  if (!parsed) return fail(Errc::kProtocol, parsed.error().message);
  const json::object& report = *parsed;
  const json::object* program = object_in(report, "smartctl");
  if (program == nullptr) return fail(Errc::kProtocol, "no report of smartctl");
  DiskHealth out;
  const json::object* status = object_in(report, "smart_status");
  const json::value* passed = status == nullptr ? nullptr : status->if_contains("passed");
  if (passed != nullptr && !passed->is_bool()) passed = nullptr;
  if (passed != nullptr && !passed->get_bool()) {
    out.conditions.push_back({Severity::kCritical, "SMART expects it to fail"});
  }
  read_attributes(report, out);
  const json::object* nvme = object_in(report, "nvme_smart_health_information_log");
  if (nvme != nullptr) {
    read_nvme(*nvme, "available_spare", "available_spare_threshold", "percentage_used", out);
  }
  // Bits 0 and 1: wrong arguments, the device could not be opened. The others speak of the disk.
  constexpr std::uint64_t kNotAsked = 3;
  if ((number_in(*program, "exit_status") & kNotAsked) != 0) {
    return fail(Errc::kProtocol, "smartctl could not ask it");
  }
  if (passed == nullptr && out.counters.empty()) {
    return fail(Errc::kProtocol, "smartctl says nothing of its health");
  }
  return out;
}

Result<DiskHealth> parse_nvme_smart_log(std::string_view text) {
  auto parsed = parse_object(text);
  if (!parsed) return fail(Errc::kProtocol, parsed.error().message);
  // Newer versions of nvme name each bit: {"value": 4, "available_spare": 0, ...}.
  if (const json::object* bits = object_in(*parsed, "critical_warning"); bits != nullptr) {
    const std::uint64_t value = number_in(*bits, "value");
    (*parsed)["critical_warning"] = value;
  }
  if (!get_u64(*parsed, "critical_warning") || !parsed->contains("media_errors")) {
    return fail(Errc::kProtocol, "no health log of an NVMe controller");
  }
  DiskHealth out;
  read_nvme(*parsed, "avail_spare", "spare_thresh", "percent_used", out);
  return out;
}

Duration DiskHealthSource::interval() const {
  constexpr std::chrono::milliseconds kWhileRunning{200};
  return program_.running() || !waiting_.empty() ? kWhileRunning : options_.interval;
}

Status DiskHealthSource::find_disks() {
  const bool smart = which_ == Which::kSmart;
  for (const std::string& disk :
       list_directory(place_.path(smart ? "/sys/block" : "/sys/class/nvme"))) {
    if (disk.starts_with(smart ? "sd" : "nvme")) waiting_.push_back(disk);
  }
  std::reverse(waiting_.begin(), waiting_.end());
  if (waiting_.empty()) return fail(Errc::kNotFound, "no such disk");
  return {};
}

Status DiskHealthSource::start_next() {
  disk_ = std::move(waiting_.back());
  waiting_.pop_back();
  Program::Options options;
  options.limit = options_.limit;
  const std::string device = "/dev/" + disk_;
  by_nvme_ = which_ == Which::kNvme;
  if (by_nvme_) {
    options.argv = {options_.nvme, "smart-log", "--output-format=json", device};
    const Status started = program_.start(options);
    if (started || started.error().code != Errc::kNotFound) return started;
    by_nvme_ = false;
  }
  // Spinning a disk up to ask it is not worth it.
  options.argv = {options_.smartctl, "--json", "--all", "--nocheck=standby", device};
  Status started = program_.start(options);
  if (!started) waiting_.clear();
  return started;
}

Status DiskHealthSource::judge(const Program::Output& output, Time now,
                               std::vector<Event>& events) {
  const auto health = by_nvme_ ? parse_nvme_smart_log(output.text) : parse_smartctl(output.text);
  if (!health) return tl::unexpected<Error>(health.error().context(disk_));
  Event event;
  event.time = now;
  event.node = place_.node;
  event.source = name();
  event.kind = EventKind::kDisk;
  event.location = clean(disk_);
  for (const auto& condition : health->conditions) {
    event.severity = condition.severity;
    event.text = event.location + ": " + condition.text;
    events.push_back(event);
  }
  for (const auto& [counter, value] : health->counters) {
    event.count = counters_.grown(disk_ + "/" + counter, value);
    if (event.count == 0) continue;
    event.severity = Severity::kWarning;
    event.text = event.location + ": " + counter + " +" + std::to_string(event.count);
    event.details = {{"counter", counter}};
    events.push_back(event);
  }
  return {};
}

Result<std::vector<Event>> DiskHealthSource::poll(Time now) {
  std::vector<Event> events;
  Status problem;
  if (program_.running()) {
    auto ended = program_.poll();
    if (!ended) return events;
    problem = *ended ? judge(**ended, now, events)
                     : Status(tl::unexpected<Error>(ended->error().context(disk_)));
  } else if (waiting_.empty()) {
    problem = find_disks();
  }
  if (!program_.running() && !waiting_.empty() && problem) problem = start_next();
  if (!problem && events.empty()) return tl::unexpected<Error>(problem.error());
  return events;
}

}  // namespace lifeboat::predictor
