// sources.hpp - which sources a node has and how they are set: the section `sources` of the
// configuration (configs/lifeboat.yaml documents every key), and the sources made of it.
#pragma once

#include <memory>
#include <vector>

#include "base/yaml_reader.hpp"
#include "predictor/sources/checks.hpp"
#include "predictor/sources/disk_health.hpp"
#include "predictor/sources/ipmi.hpp"
#include "predictor/sources/journal.hpp"
#include "predictor/sources/kmsg.hpp"
#include "predictor/sources/network.hpp"
#include "predictor/sources/pressure.hpp"
#include "predictor/sources/rasdaemon.hpp"
#include "predictor/sources/thermal.hpp"

namespace lifeboat::predictor {

// Options of a source and whether it is on.
template <class Options>
struct Switched : Options {
  bool enabled = true;
};

struct CounterOptions {
  std::chrono::milliseconds interval{10'000};
};

struct ReplayOptions {
  std::chrono::milliseconds interval{500};
  std::string file;  // empty: off
};

struct SourcesConfig {
  Place place;
  Switched<KmsgOptions> kmsg;
  Switched<JournalOptions> journal;
  Switched<RasdaemonOptions> rasdaemon;
  Switched<CounterOptions> edac;
  Switched<DiskHealthOptions> smart;
  Switched<DiskHealthOptions> nvme;
  Switched<IpmiOptions> ipmi;
  Switched<ThermalOptions> thermal;
  Switched<PressureOptions> pressure;
  Switched<NetworkOptions> network;
  Switched<CounterOptions> pcie;
  Switched<ChecksOptions> checks;
  ReplayOptions replay;

  // Names of the sources, as in the configuration; "replay" is not one of those that can be chosen.
  static const std::vector<std::string>& names();
  // Turns off all that are not in `wanted`. kInvalid: a name that is none.
  Status only(const std::vector<std::string>& wanted);
};

// The mapping `sources`; the node's name is not its business.
void read_sources(yaml::Reader& m, SourcesConfig& out);

// Those that are on; those that say most of an error first (see repeats.hpp).
std::vector<std::unique_ptr<Source>> make_sources(const SourcesConfig& config);

}  // namespace lifeboat::predictor
