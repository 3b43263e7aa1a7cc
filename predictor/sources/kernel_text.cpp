#include "predictor/sources/kernel_text.hpp"

#include <algorithm>
#include <array>

#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

void set(Event& event, EventKind kind, Severity severity, std::string_view location) {
  event.kind = kind;
  event.severity = severity;
  event.location = clean(location);
}

void add_detail(Event& event, std::string_view name, std::string_view value) {
  if (!value.empty()) event.details.emplace_back(name, clean(value));
}

// Drivers' names for the same things.
std::string_view detail_name(std::string_view key) {
  if (key == "col") return "column";
  if (key == "ba") return "bank";
  constexpr std::array<std::string_view, 9> kKept{"page", "offset", "row",  "bank",    "column",
                                                  "rank", "channel", "slot", "syndrome"};
  return std::find(kKept.begin(), kKept.end(), key) != kKept.end() ? key : std::string_view{};
}

// EDAC MC0: 1 CE memory read error on LABEL (...)
bool edac(Event& event, std::string_view text) {
  if (!text.starts_with("EDAC MC")) return false;
  text.remove_prefix(7);
  const std::string mc = "mc" + std::string(leading_digits(text));
  text.remove_prefix(mc.size() - 2);
  if (mc.size() == 2 || !text.starts_with(": ")) return false;
  text.remove_prefix(2);
  const std::string_view digits = leading_digits(text);
  const auto count = whole_number(digits);
  const std::string_view rest = text.substr(digits.size());
  const bool corrected = rest.starts_with(" CE ");
  if (!count || *count == 0 || (!corrected && !rest.starts_with(" UE "))) return false;
  const auto on = rest.find(" on ");
  const std::string_view label = on == std::string_view::npos
                                     ? std::string_view{}
                                     : rest.substr(on + 4, rest.find(" (") - on - 4);
  set(event, corrected ? EventKind::kCorrectedMemory : EventKind::kUncorrectedMemory,
      corrected ? Severity::kWarning : Severity::kCritical, memory_location(mc, label));
  event.count = *count;
  add_detail(event, "mc", mc);
  add_detail(event, "dimm", label);
  const auto open = rest.find(" (");
  if (open != std::string_view::npos) {
    add_memory_details(event, rest.substr(open + 2, rest.find(')', open) - open - 2));
  }
  return true;
}

// [Hardware Error]: lines of machine checks (mce:, AMD) and of firmware ({1}, GHES). One line of
// each block is the event; the rest of the block, and "events logged", stay messages.
bool hardware_error(Event& event, std::string_view text) {
  if (text.starts_with("mce: ")) text.remove_prefix(5);
  if (text.starts_with('{')) text.remove_prefix(std::min(text.find('}'), text.size() - 1) + 1);
  if (!text.starts_with("[Hardware Error]: ")) return false;
  text.remove_prefix(18);
  const std::string_view cpu = leading_digits(
      contains(text, "CPU:") ? text.substr(text.find("CPU:") + 4)
      : text.starts_with("CPU ") ? text.substr(4) : std::string_view{});
  const std::string location = cpu.empty() ? std::string() : "cpu" + std::string(cpu);
  if (text.starts_with("CPU ") && contains(text, "Machine Check")) {
    const bool exception = contains(text, "Machine Check Exception");
    set(event, EventKind::kProcessor, exception ? Severity::kCritical : Severity::kError, location);
    const auto bank = text.find("Bank ");
    if (bank != std::string_view::npos)
      add_detail(event, "bank", leading_digits(text.substr(bank + 5)));
    return true;
  }
  if (text.starts_with("event severity: ")) {
    const bool corrected = contains(text, ": corrected") || contains(text, ": info");
    set(event, EventKind::kProcessor, corrected ? Severity::kWarning : Severity::kCritical,
        location);
    return true;
  }
  if (text.starts_with("Corrected error") || text.starts_with("Deferred error")) {
    set(event, EventKind::kProcessor, Severity::kWarning, location);
    return true;
  }
  if (text.starts_with("Uncorrected") || text.starts_with("System Fatal error") ||
      text.starts_with("Machine check: ")) {
    set(event, EventKind::kProcessor, Severity::kFatal, location);
    return true;
  }
  return false;
}

// 0000:3b:00.0
bool is_pci_address(std::string_view text) {
  return text.size() == 12 && text[4] == ':' && text[7] == ':' && text[10] == '.';
}

// "AER: Corrected error received: 0000:3b:00.0", "AER: Correctable error message received from ..".
// The lines that follow it describe the same error.
bool aer(Event& event, std::string_view text) {
  const auto at = text.find("AER: ");
  if (at == std::string_view::npos || !contains(text.substr(at), "received")) return false;
  const std::string_view said = text.substr(at + 5);
  const bool correctable = contains(said, "Corrected") || contains(said, "Correctable");
  const bool nonfatal = contains(said, "Non-Fatal") || contains(said, "Nonfatal");
  std::string_view device;
  for (const std::string_view word : split(said, ' ')) {
    if (is_pci_address(word)) device = word;
  }
  if (device.empty()) return false;
  set(event, EventKind::kBus,
      correctable ? Severity::kWarning : nonfatal ? Severity::kError : Severity::kCritical, device);
  add_detail(event, "severity", correctable ? "correctable" : nonfatal ? "nonfatal" : "fatal");
  return true;
}

// Floppy, CD, loop and network block devices say nothing about this node's disks.
bool is_own_disk(std::string_view device) {
  return device.starts_with("sd") || device.starts_with("hd") || device.starts_with("vd") ||
         device.starts_with("nvme") || device.starts_with("md") || device.starts_with("dm-") ||
         device.starts_with("pmem") || device.starts_with("mmcblk");
}

bool disk(Event& event, std::string_view text) {
  for (const std::string_view said :
       {"I/O error, dev ", "medium error, dev ", "critical target error, dev "}) {
    const auto at = text.find(said);
    if (at == std::string_view::npos) continue;
    const std::string_view rest = text.substr(at + said.size());
    const std::string_view device = rest.substr(0, rest.find(','));
    if (!is_own_disk(device)) return false;
    set(event, EventKind::kDisk, Severity::kError, device);
    add_detail(event, "sector",
               leading_digits(rest.substr(std::min(rest.size(), device.size() + 9))));
    return true;
  }
  if (text.starts_with("nvme nvme")) {
    const std::string_view device = between(text, "nvme ", ":");
    const bool lost = contains(text, "controller is down") || contains(text, "Device not ready") ||
                      contains(text, "Removing after probe failure") ||
                      contains(text, "Disabling device after reset failure");
    if (!lost && !(contains(text, " QID ") && contains(text, "timeout"))) return false;
    set(event, EventKind::kDisk, lost ? Severity::kCritical : Severity::kError, device);
    return true;
  }
  if (text.starts_with("ata") && contains(text, ": failed command: ")) {
    set(event, EventKind::kDisk, Severity::kError, text.substr(0, text.find(':')));
    return true;
  }
  if (text.starts_with("EXT4-fs error (device ") || text.starts_with("BTRFS error (device ")) {
    set(event, EventKind::kDisk, Severity::kError,
        trimmed(text.substr(text.find("device ") + 7,
                            text.find_first_of(":) ", 22) - text.find("device ") - 7)));
    return true;
  }
  if (text.starts_with("XFS (") &&
      (contains(text, "orruption") || contains(text, "metadata I/O error") ||
       contains(text, "log I/O error"))) {
    set(event, EventKind::kDisk, Severity::kError, between(text, "(", ")"));
    return true;
  }
  return false;
}

// Xids by NVIDIA's list: those that the device, its memory or its links cause. The others (13, 31,
// 43, 45: a program's own mistakes) stay messages.
bool gpu(Event& event, std::string_view text) {
  if (!text.starts_with("NVRM: Xid (")) return false;
  const auto after = text.find("): ");
  if (after == std::string_view::npos) return false;
  const std::string_view digits = leading_digits(text.substr(after + 3));
  const auto xid = whole_number(digits);
  constexpr std::array<std::uint64_t, 7> kLost{48, 62, 64, 79, 95, 119, 120};
  constexpr std::array<std::uint64_t, 5> kIll{61, 63, 74, 92, 94};
  const bool lost = xid && std::find(kLost.begin(), kLost.end(), *xid) != kLost.end();
  const bool ill = xid && std::find(kIll.begin(), kIll.end(), *xid) != kIll.end();
  if (!lost && !ill) return false;
  const std::string_view device = between(text, "(PCI:", ")");
  set(event, EventKind::kProcessor, lost ? Severity::kCritical : Severity::kError, device);
  add_detail(event, "xid", digits);
  return true;
}

bool temperature(Event& event, std::string_view text) {
  if (text.starts_with("mce: ")) text.remove_prefix(5);
  if (text.starts_with("CPU") && contains(text, "temperature above threshold")) {
    set(event, EventKind::kTemperature, Severity::kWarning,
        "cpu" + std::string(leading_digits(text.substr(3))));
    return true;
  }
  if (text.starts_with("thermal ") && contains(text, "critical temperature reached")) {
    set(event, EventKind::kTemperature, Severity::kFatal, between(text, "thermal ", ":"));
    return true;
  }
  return false;
}

bool lockup(Event& event, std::string_view text) {
  if (text.starts_with("watchdog: BUG: soft lockup - CPU#")) {
    set(event, EventKind::kProcessor, Severity::kError,
        "cpu" + std::string(leading_digits(text.substr(33))));
    return true;
  }
  const auto hard = text.find("etected hard LOCKUP on cpu ");
  if (hard != std::string_view::npos) {
    set(event, EventKind::kProcessor, Severity::kCritical,
        "cpu" + std::string(leading_digits(text.substr(hard + 27))));
    return true;
  }
  return false;
}

bool network(Event& event, std::string_view text) {
  if (!text.starts_with("mlx5_core ") || !contains(text, "Port module event[error]")) return false;
  const std::string_view device = text.substr(10, 12);
  set(event, EventKind::kNetwork, Severity::kError, is_pci_address(device) ? device : "");
  return true;
}

// The kernel gave up a page that an uncorrected error was found in.
bool memory_failure(Event& event, std::string_view text) {
  if (!text.starts_with("Memory failure: 0x") || !contains(text, "recovery action")) return false;
  set(event, EventKind::kUncorrectedMemory, Severity::kCritical, "");
  add_detail(event, "page", between(text, "failure: ", ":"));
  return true;
}

bool pressure(Event& event, std::string_view text) {
  if (!text.starts_with("Out of memory: Kill")) return false;  // of the node, not of one cgroup
  set(event, EventKind::kPressure, Severity::kError, "memory");
  return true;
}

}  // namespace

Severity severity_of_priority(unsigned priority) {
  constexpr std::array<Severity, 8> kByPriority{
      Severity::kFatal,   Severity::kFatal,  Severity::kCritical, Severity::kError,
      Severity::kWarning, Severity::kNotice, Severity::kInfo,     Severity::kDebug};
  return kByPriority.at(priority & 7);
}

void classify_kernel_text(Event& event) {
  const std::string text = event.text;
  (void)(edac(event, text) || hardware_error(event, text) || memory_failure(event, text) ||
         aer(event, text) || disk(event, text) || gpu(event, text) || temperature(event, text) ||
         lockup(event, text) || network(event, text) || pressure(event, text));
}

void add_memory_details(Event& event, std::string_view list) {
  std::string group;
  for (const std::string_view part : split(list, ' ')) {
    const auto colon = part.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view key = part.substr(0, colon);
    const std::string_view value = part.substr(colon + 1);
    if (key == "bg") group = std::string(value) + ".";
    if (const std::string_view name = detail_name(key); !name.empty()) {
      add_detail(event, name, key == "ba" ? group + std::string(value) : std::string(value));
    }
  }
}

std::string memory_location(std::string_view mc, std::string_view label) {
  label = trimmed(label);
  const bool one = !label.empty() && !contains(label, " or ") && label != "any memory" &&
                   label != "unknown memory" && label != "unknown label";
  return clean(one ? std::string(mc) + "/" + std::string(label) : std::string(mc));
}

}  // namespace lifeboat::predictor
