#include "predictor/sources/edac.hpp"

#include "predictor/sources/kernel_text.hpp"

namespace lifeboat::predictor {
namespace {

bool is_numbered(std::string_view name, std::string_view word) {
  return name.starts_with(word) && whole_number(name.substr(word.size())).has_value();
}

}  // namespace

Status EdacSource::read_counter(const Dimm& dimm, bool corrected, Time now,
                                std::vector<Event>& events) {
  const std::string what = corrected ? "ce" : "ue";
  const std::string path = dimm.directory + (dimm.name.empty() ? "/" + what + "_noinfo_count"
                                                               : "/dimm_" + what + "_count");
  const auto value = read_number(path);
  if (!value && value.error().code == Errc::kNotFound) return {};  // not every driver has them all
  if (!value) return tl::unexpected<Error>(value.error());
  const std::uint64_t count = counters_.grown(dimm.mc + "/" + dimm.name + "/" + what, *value);
  if (count == 0) return {};
  Event event;
  event.time = now;
  event.node = place_.node;
  event.source = name();
  event.kind = corrected ? EventKind::kCorrectedMemory : EventKind::kUncorrectedMemory;
  event.severity = corrected ? Severity::kWarning : Severity::kCritical;
  event.location = memory_location(dimm.mc, dimm.label.empty() ? dimm.name : dimm.label);
  event.count = count;
  event.details = {{"mc", dimm.mc}};
  if (!dimm.name.empty()) {
    event.details.emplace_back("dimm", clean(dimm.label.empty() ? dimm.name : dimm.label));
    const std::string where = clean(read_value(dimm.directory + "/dimm_location"));
    if (!where.empty()) event.details.emplace_back("place", where);
  }
  event.text = std::to_string(count) + (corrected ? " corrected" : " uncorrected") +
               " memory errors on " + event.location;
  events.push_back(std::move(event));
  return {};
}

Result<std::vector<Event>> EdacSource::poll(Time now) {
  const std::string top = place_.path("/sys/devices/system/edac/mc");
  std::vector<Dimm> dimms;
  for (const std::string& mc : list_directory(top)) {
    if (!is_numbered(mc, "mc")) continue;
    const std::string directory = top + "/" + mc;
    dimms.push_back({mc, "", directory, ""});
    for (const std::string& part : list_directory(directory)) {
      if (!is_numbered(part, "dimm") && !is_numbered(part, "rank")) continue;
      const std::string below = directory + "/" + part;
      dimms.push_back({mc, part, below, read_value(below + "/dimm_label")});
    }
  }
  if (dimms.empty()) return fail(Errc::kNotFound, "no EDAC memory controller in " + top);
  std::vector<Event> events;
  Status problem;
  for (const Dimm& dimm : dimms) {
    for (const bool corrected : {true, false}) {
      if (auto read = read_counter(dimm, corrected, now, events); !read) problem = std::move(read);
    }
  }
  // What could be read counts; the rest is said when there is nothing else to say.
  if (!problem && events.empty()) return tl::unexpected<Error>(problem.error());
  return events;
}

}  // namespace lifeboat::predictor
