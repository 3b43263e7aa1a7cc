// container_spec.hpp - what a container is, independent of the node it lives on: the part that
// moves with it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "criu_glue/checkpoint.hpp"
#include "migration/address.hpp"

namespace lifeboat {

struct BindMount {
  std::string source;  // same path on every node
  std::string target;  // in the container
  bool readonly = false;
};

struct ContainerSpec {
  std::string id;   // "<job>-<index>"
  std::string job;
  std::string bundle;  // directory of the OCI bundle, same path on every node
  std::vector<std::string> command;
  std::vector<std::pair<std::string, std::string>> env;
  std::string cwd;
  std::vector<BindMount> mounts;
  std::uint64_t memory_bytes = 0;
  // Its root is an overlay, of whose private layer so much may move with it; 0: read-only.
  std::uint64_t writable_bytes = 0;
  std::optional<std::pair<unsigned, unsigned>> user;  // uid, gid; absent: as the bundle says
  std::vector<Endpoint> endpoints;                    // one per fabric
};

json::object to_json(const ContainerSpec& spec);
// kProtocol naming the member that is missing or wrong.
Result<ContainerSpec> container_spec_from(const json::object& object);

// The OCI configuration for crun: the bundle's config.json with this container's command,
// namespaces and mounts. `netns_path` is the prepared network namespace; `overlay_root` is where an
// overlay is mounted, if the root is writable.
Result<std::string> oci_config(const ContainerSpec& spec, const std::string& netns_path,
                               const std::string& overlay_root = "");

// kRefused, naming what is missing, unless the bundle and every bind source are on this node.
Status check_sources(const ContainerSpec& spec);
// Absolute path of the bundle's root file system.
Result<std::string> bundle_root(const ContainerSpec& spec);
// The mounts that CRIU must not recreate: the root first, then the bind mounts.
Result<std::vector<ExternalMount>> external_mounts(const ContainerSpec& spec);

}  // namespace lifeboat
