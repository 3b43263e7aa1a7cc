#include "predictor/sources/pcie.hpp"

namespace lifeboat::predictor {

Status PcieSource::read_device(const std::string& device, const std::string& severity, Time now,
                               std::vector<Event>& events) {
  const std::string path = place_.path("/sys/bus/pci/devices/" + device + "/aer_dev_" + severity);
  const std::string text = read_value(path);
  if (text.empty()) return {};
  found_ = true;
  std::uint64_t total = 0;
  std::string grew;
  for (const std::string_view line : split(text, '\n')) {
    const auto space = line.rfind(' ');
    const auto value =
        space == std::string_view::npos ? std::nullopt : whole_number(line.substr(space));
    if (!value) return fail(Errc::kProtocol, path + " holds no counts");
    const std::string name(line.substr(0, space));
    const std::uint64_t count = counters_.grown(device + "/" + severity + "/" + name, *value);
    if (name.starts_with("TOTAL_ERR")) {
      total = count;
    } else if (count > 0) {
      grew += (grew.empty() ? "" : ", ") + name + " +" + std::to_string(count);
    }
  }
  if (total == 0) return {};
  Event event;
  event.time = now;
  event.node = place_.node;
  event.source = name();
  event.kind = EventKind::kBus;
  event.severity = severity == "correctable" ? Severity::kWarning
                   : severity == "nonfatal"  ? Severity::kError
                                             : Severity::kCritical;
  event.location = clean(device);
  event.count = total;
  event.text = clean(std::to_string(total) + " " + severity + " PCIe errors of " + device +
                     (grew.empty() ? "" : ": " + grew));
  event.details = {{"severity", severity}};
  events.push_back(std::move(event));
  return {};
}

Result<std::vector<Event>> PcieSource::poll(Time now) {
  std::vector<Event> events;
  Status problem;
  found_ = false;
  for (const std::string& device : list_directory(place_.path("/sys/bus/pci/devices"))) {
    for (const std::string severity : {"correctable", "nonfatal", "fatal"}) {
      if (auto read = read_device(device, severity, now, events); !read) problem = std::move(read);
    }
  }
  if (!found_) return fail(Errc::kNotFound, "no PCIe device that reports errors");
  if (!problem && events.empty()) return tl::unexpected<Error>(problem.error());
  return events;
}

}  // namespace lifeboat::predictor
