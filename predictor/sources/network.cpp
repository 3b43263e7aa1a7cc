#include "predictor/sources/network.hpp"

#include <algorithm>

namespace lifeboat::predictor {

Event NetworkSource::event(const std::string& location, Time now) const {
  Event event;
  event.time = now;
  event.node = place_.node;
  event.source = name();
  event.kind = EventKind::kNetwork;
  event.severity = Severity::kWarning;
  event.location = clean(location);
  return event;
}

std::vector<std::string> NetworkSource::interfaces() const {
  const std::string top = place_.path("/sys/class/net/");
  std::vector<std::string> found;
  for (const std::string& name : list_directory(top)) {
    const auto& wanted = options_.interfaces;
    const bool take = wanted.empty()
                          ? is_directory(top + name + "/device")
                          : std::find(wanted.begin(), wanted.end(), name) != wanted.end();
    if (take) found.push_back(name);
  }
  return found;
}

Status NetworkSource::read_group(const Group& group, Time now, std::vector<Event>& events) {
  Event told = event(group.location, now);
  std::uint64_t most = 0;
  for (const std::string& name : group.names) {
    const auto value = read_number(group.directory + "/" + name);
    if (!value && value.error().code == Errc::kNotFound) continue;
    if (!value) return tl::unexpected<Error>(value.error());
    const std::uint64_t count = counters_.grown(group.location + "/" + name, *value);
    if (count == 0) continue;
    // rx_errors holds rx_crc_errors as well: the highest is how many there were.
    most = std::max(most, count);
    told.details.emplace_back(name, std::to_string(count));
    told.text += (told.text.empty() ? "" : ", ") + name + " +" + std::to_string(count);
    if (name == group.severe) told.severity = Severity::kError;
  }
  if (most == 0) return {};
  told.count = most;
  told.text = clean(told.location + ": " + told.text);
  events.push_back(std::move(told));
  return {};
}

Status NetworkSource::read_carrier(const std::string& interface, Time now,
                                   std::vector<Event>& events) {
  const std::string directory = place_.path("/sys/class/net/" + interface);
  const auto value = read_number(directory + "/carrier_changes");
  if (!value && value.error().code == Errc::kNotFound) return {};
  if (!value) return tl::unexpected<Error>(value.error());
  const std::uint64_t changes = counters_.grown(interface + "/carrier", *value);
  if (changes == 0) return {};
  const bool down = read_value(directory + "/operstate") == "down";
  Event told = event(interface, now);
  told.count = changes;
  if (down) told.severity = Severity::kError;
  told.text = interface + ": carrier changed " + std::to_string(changes) + " times, " +
              (down ? "and is lost" : "and is there");
  told.details = {{"carrier", down ? "down" : "up"}};
  events.push_back(std::move(told));
  return {};
}

Result<std::vector<Event>> NetworkSource::poll(Time now) {
  const std::vector<std::string> links = interfaces();
  std::vector<Group> groups;
  for (const std::string& name : links) {
    groups.push_back(
        {name,
         place_.path("/sys/class/net/" + name + "/statistics"),
         {"rx_errors", "rx_crc_errors", "rx_frame_errors", "tx_errors", "tx_carrier_errors"},
         ""});
  }
  const std::string fabrics = place_.path("/sys/class/infiniband");
  for (const std::string& device : list_directory(fabrics)) {
    const std::string ports = fabrics + "/" + device + "/ports";
    for (const std::string& port : list_directory(ports)) {
      groups.push_back({device + "/" + port,
                        ports + "/" + port + "/counters",
                        {"symbol_error", "link_error_recovery", "link_downed", "port_rcv_errors",
                         "local_link_integrity_errors", "excessive_buffer_overrun_errors"},
                        "link_downed"});
    }
  }
  if (groups.empty()) return fail(Errc::kNotFound, "no network interface with a device");
  std::vector<Event> events;
  Status problem;
  for (const Group& group : groups) {
    if (auto read = read_group(group, now, events); !read) problem = std::move(read);
  }
  for (const std::string& name : links) {
    if (auto read = read_carrier(name, now, events); !read) problem = std::move(read);
  }
  if (!problem && events.empty()) return tl::unexpected<Error>(problem.error());
  return events;
}

}  // namespace lifeboat::predictor
