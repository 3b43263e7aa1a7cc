#include "predictor/sources/sources.hpp"

#include <algorithm>
#include <map>

#include "predictor/sources/edac.hpp"
#include "predictor/sources/pcie.hpp"
#include "predictor/sources/replay.hpp"

namespace lifeboat::predictor {
namespace {

using namespace std::chrono_literals;

constexpr yaml::Integer kPercent{0, 100};

void read_common(yaml::Reader& m, bool& enabled, std::chrono::milliseconds& interval) {
  m.optional("enabled", enabled, yaml::Boolean{});
  m.optional("interval", interval, yaml::Duration{100ms, 24h});
}

// What has an interval and a switch, and whatever `body` reads besides.
template <class Options>
void section(yaml::Reader& m, std::string_view name, Switched<Options>& options,
             const std::function<void(yaml::Reader&)>& body = {}) {
  m.map(name, [&](yaml::Reader& s) {
    read_common(s, options.enabled, options.interval);
    if (body) body(s);
  });
}

std::map<std::string, bool*> switches(SourcesConfig& config) {
  return {{"kmsg", &config.kmsg.enabled},         {"journal", &config.journal.enabled},
          {"rasdaemon", &config.rasdaemon.enabled}, {"edac", &config.edac.enabled},
          {"smart", &config.smart.enabled},       {"nvme", &config.nvme.enabled},
          {"ipmi", &config.ipmi.enabled},         {"thermal", &config.thermal.enabled},
          {"pressure", &config.pressure.enabled}, {"network", &config.network.enabled},
          {"pcie", &config.pcie.enabled},         {"checks", &config.checks.enabled}};
}

}  // namespace

const std::vector<std::string>& SourcesConfig::names() {
  static const std::vector<std::string> kNames = [] {
    SourcesConfig any;
    std::vector<std::string> names;
    for (const auto& [name, enabled] : switches(any)) names.push_back(name);
    return names;
  }();
  return kNames;
}

Status SourcesConfig::only(const std::vector<std::string>& wanted) {
  for (const std::string& name : wanted) {
    if (std::find(names().begin(), names().end(), name) != names().end()) continue;
    std::string known;
    for (const std::string& one : names()) known += (known.empty() ? "" : ", ") + one;
    return fail(Errc::kInvalid, "no source '" + name + "'; there are " + known);
  }
  for (const auto& [name, enabled] : switches(*this)) {
    *enabled = std::find(wanted.begin(), wanted.end(), name) != wanted.end();
  }
  return {};
}

void read_sources(yaml::Reader& m, SourcesConfig& out) {
  const yaml::Text program{1, 1024};
  const yaml::Duration limit{100ms, 1h};
  m.optional("root", out.place.root, yaml::Path{});
  if (out.place.root == "/") out.place.root.clear();
  section(m, "kmsg", out.kmsg, [&](yaml::Reader& s) {
    s.optional("user_records", out.kmsg.user_records, yaml::Boolean{});
  });
  section(m, "journal", out.journal, [&](yaml::Reader& s) {
    s.optional("program", out.journal.program, program);
    s.optional("priority", out.journal.priority,
               yaml::Choice<std::string>{{{"err", "err"},
                                          {"warning", "warning"},
                                          {"notice", "notice"},
                                          {"info", "info"}}});
    s.optional("kernel", out.journal.kernel, yaml::Boolean{});
  });
  section(m, "rasdaemon", out.rasdaemon, [&](yaml::Reader& s) {
    s.optional("database", out.rasdaemon.database, yaml::Path{});
  });
  section(m, "edac", out.edac);
  section(m, "smart", out.smart, [&](yaml::Reader& s) {
    s.optional("program", out.smart.smartctl, program);
    s.optional("limit", out.smart.limit, limit);
  });
  section(m, "nvme", out.nvme, [&](yaml::Reader& s) {
    s.optional("program", out.nvme.nvme, program);
    s.optional("limit", out.nvme.limit, limit);
  });
  out.nvme.smartctl = out.smart.smartctl;
  section(m, "ipmi", out.ipmi, [&](yaml::Reader& s) {
    s.optional("program", out.ipmi.program, program);
    s.optional("limit", out.ipmi.limit, limit);
  });
  section(m, "thermal", out.thermal, [&](yaml::Reader& s) {
    s.optional("margin", out.thermal.margin, yaml::Integer{0, 50});
  });
  section(m, "pressure", out.pressure, [&](yaml::Reader& s) {
    s.optional("memory", out.pressure.memory, kPercent);
    s.optional("io", out.pressure.io, kPercent);
    s.optional("cpu", out.pressure.cpu, kPercent);
  });
  section(m, "network", out.network, [&](yaml::Reader& s) {
    s.list("interfaces", out.network.interfaces, yaml::Count{0, 64}, yaml::Text{1, 15});
  });
  section(m, "pcie", out.pcie);
  section(m, "checks", out.checks, [&](yaml::Reader& s) {
    s.optional("directory", out.checks.directory, yaml::Path{});
    s.list("commands", out.checks.commands, yaml::Count{0, 64}, yaml::Text{1, 4096});
    s.optional("limit", out.checks.limit, limit);
  });
  m.map("replay", [&](yaml::Reader& s) {
    s.optional("file", out.replay.file, yaml::Path{});
    s.optional("interval", out.replay.interval, yaml::Duration{100ms, 24h});
  });
}

std::vector<std::unique_ptr<Source>> make_sources(const SourcesConfig& config) {
  const Place& place = config.place;
  std::vector<std::unique_ptr<Source>> sources;
  const auto add = [&](bool enabled, auto make) {
    if (enabled) sources.push_back(make());
  };
  using Disks = DiskHealthSource;
  add(config.kmsg.enabled, [&] { return std::make_unique<KmsgSource>(place, config.kmsg); });
  add(config.journal.enabled,
      [&] { return std::make_unique<JournalSource>(place, config.journal); });
  add(config.rasdaemon.enabled,
      [&] { return std::make_unique<RasdaemonSource>(place, config.rasdaemon); });
  add(config.edac.enabled,
      [&] { return std::make_unique<EdacSource>(place, config.edac.interval); });
  add(config.smart.enabled,
      [&] { return std::make_unique<Disks>(place, Disks::Which::kSmart, config.smart); });
  add(config.nvme.enabled,
      [&] { return std::make_unique<Disks>(place, Disks::Which::kNvme, config.nvme); });
  add(config.ipmi.enabled, [&] { return std::make_unique<IpmiSource>(place, config.ipmi); });
  add(config.thermal.enabled,
      [&] { return std::make_unique<ThermalSource>(place, config.thermal); });
  add(config.pressure.enabled,
      [&] { return std::make_unique<PressureSource>(place, config.pressure); });
  add(config.network.enabled,
      [&] { return std::make_unique<NetworkSource>(place, config.network); });
  add(config.pcie.enabled,
      [&] { return std::make_unique<PcieSource>(place, config.pcie.interval); });
  add(config.checks.enabled, [&] { return std::make_unique<ChecksSource>(place, config.checks); });
  add(!config.replay.file.empty(),
      [&] { return std::make_unique<ReplaySource>(config.replay.file, config.replay.interval); });
  return sources;
}

}  // namespace lifeboat::predictor
