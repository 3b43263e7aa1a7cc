#include "container_spec.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "base/file.hpp"

namespace lifeboat {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kListMax = 1024;

Result<BindMount> mount_from(const json::value& item) {
  if (!item.is_object()) return fail(Errc::kProtocol, "mounts: not an object");
  BindMount mount;
  TRY(mount.source, get_string(item.get_object(), "source"));
  TRY(mount.target, get_string(item.get_object(), "target"));
  mount.readonly = flag(item.get_object(), "readonly");
  if (mount.source.empty() || mount.source.front() != '/' || mount.target.empty() ||
      mount.target.front() != '/' || mount.target == "/") {
    return fail(Errc::kProtocol, "mounts: '" + mount.source + "' on '" + mount.target +
                                     "': both must be absolute paths, the target not /");
  }
  return mount;
}

Result<Endpoint> endpoint_from(const json::value& item) {
  if (!item.is_object()) return fail(Errc::kProtocol, "endpoints: not an object");
  const json::object& object = item.get_object();
  Endpoint endpoint;
  TRY(endpoint.fabric, get_string(object, "fabric"));
  TRY(endpoint.mac, get_string(object, "mac"));
  TRY(endpoint.address, get_string(object, "address"));
  TRY(const std::uint64_t prefix, get_u64(object, "prefix"));
  if (prefix > 32) return fail(Errc::kProtocol, "endpoints: a prefix longer than 32 bits");
  endpoint.prefix = static_cast<unsigned>(prefix);
  return endpoint;
}

}  // namespace

json::object to_json(const ContainerSpec& spec) {
  json::object env;
  for (const auto& [key, value] : spec.env) env[key] = value;
  json::array mounts;
  for (const BindMount& mount : spec.mounts) {
    mounts.push_back(json::object{
        {"source", mount.source}, {"target", mount.target}, {"readonly", mount.readonly}});
  }
  json::array endpoints;
  for (const Endpoint& endpoint : spec.endpoints) {
    endpoints.push_back(json::object{{"fabric", endpoint.fabric},
                                     {"mac", endpoint.mac},
                                     {"address", endpoint.address},
                                     {"prefix", endpoint.prefix}});
  }
  json::object out{{"id", spec.id},
                   {"job", spec.job},
                   {"bundle", spec.bundle},
                   {"command", to_array(spec.command)},
                   {"env", std::move(env)},
                   {"cwd", spec.cwd},
                   {"mounts", std::move(mounts)},
                   {"memory_bytes", spec.memory_bytes},
                   {"endpoints", std::move(endpoints)}};
  if (spec.writable_bytes > 0) out["writable_bytes"] = spec.writable_bytes;
  if (spec.user) out["user"] = json::array{spec.user->first, spec.user->second};
  return out;
}

Result<ContainerSpec> container_spec_from(const json::object& object) {
  ContainerSpec spec;
  TRY(spec.id, get_string(object, "id"));
  TRY(spec.job, get_string(object, "job"));
  TRY(spec.bundle, get_string(object, "bundle"));
  TRY(spec.cwd, get_string(object, "cwd"));
  TRY(spec.memory_bytes, get_u64(object, "memory_bytes"));
  if (object.contains("writable_bytes")) {
    TRY(spec.writable_bytes, get_u64(object, "writable_bytes"));
  }
  const bool id_ok = !spec.id.empty() && spec.id.size() <= 48 &&
                     std::all_of(spec.id.begin(), spec.id.end(), [](unsigned char c) {
                       return std::islower(c) != 0 || std::isdigit(c) != 0 || c == '-';
                     });
  if (!id_ok) return fail(Errc::kProtocol, "'" + spec.id + "' is no container id");
  TRY(spec.command, get_strings(object, "command", kListMax));
  TRY(const json::object* env, get_object(object, "env"));
  for (const auto& item : *env) {
    if (!item.value().is_string()) return fail(Errc::kProtocol, "env: not all are strings");
    spec.env.emplace_back(std::string(item.key()), std::string(item.value().get_string()));
  }
  TRY(const json::array* mounts, get_array(object, "mounts"));
  TRY(const json::array* endpoints, get_array(object, "endpoints"));
  if (mounts->size() > kListMax || endpoints->size() > 16) {
    return fail(Errc::kProtocol, "too many mounts or endpoints");
  }
  for (const json::value& item : *mounts) {
    TRY(BindMount mount, mount_from(item));
    spec.mounts.push_back(std::move(mount));
  }
  for (const json::value& item : *endpoints) {
    TRY(Endpoint endpoint, endpoint_from(item));
    spec.endpoints.push_back(std::move(endpoint));
  }
  if (const json::value* user = object.if_contains("user"); user != nullptr) {
    if (!user->is_array() || user->get_array().size() != 2) {
      return fail(Errc::kProtocol, "user: expected [uid, gid]");
    }
    boost::system::error_code bad_uid;
    boost::system::error_code bad_gid;
    const auto uid = user->get_array()[0].to_number<unsigned>(bad_uid);
    const auto gid = user->get_array()[1].to_number<unsigned>(bad_gid);
    if (bad_uid || bad_gid) return fail(Errc::kProtocol, "user: expected two numbers");
    spec.user = {uid, gid};
  }
  return spec;
}

Result<std::string> bundle_root(const ContainerSpec& spec) {
  auto text = read_file(spec.bundle + "/config.json");
  if (!text) {
    return fail(Errc::kRefused, "no OCI bundle at " + spec.bundle + ": " + text.error().message);
  }
  TRY(const json::object config, parse_object(*text));
  const json::value* root = config.if_contains("root");
  std::string path = root != nullptr && root->is_object()
                         ? string_or(root->get_object(), "path", "rootfs")
                         : "rootfs";
  if (!path.starts_with('/')) path = spec.bundle + "/" + path;
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return fail(Errc::kRefused, "bundle " + spec.bundle + ": no root file system at " + path);
  }
  return path;
}

Status check_sources(const ContainerSpec& spec) {
  TRY(const std::string root, bundle_root(spec));
  for (const BindMount& mount : spec.mounts) {
    struct stat info {};
    if (::stat(mount.source.c_str(), &info) != 0) {
      return fail(Errc::kRefused, mount.source + ", mounted at " + mount.target +
                                      " in the container, is missing here");
    }
  }
  return {};
}

Result<std::vector<ExternalMount>> external_mounts(const ContainerSpec& spec) {
  TRY(const std::string root, bundle_root(spec));
  std::vector<ExternalMount> mounts{{"/", root}};
  for (const BindMount& mount : spec.mounts) mounts.push_back({mount.target, mount.source});
  return mounts;
}

namespace {

// What the command prints goes to a file on the container's own tmpfs (it moves with the container).
// The command is the container's first process, with no shell around it: every process more makes the
// downtime longer.
json::array wrapped_command(const std::vector<std::string>& command) {
  json::array args{"/bin/sh", "-c", R"(exec "$@" </dev/null >/run/stdio.log 2>&1)", "lifeboat"};
  for (const std::string& arg : command) args.emplace_back(arg);
  return args;
}

json::object& object_at(json::object& parent, const char* key) {
  json::value& value = parent[key];
  if (!value.is_object()) value = json::object{};
  return value.get_object();
}

json::array& array_at(json::object& parent, const char* key) {
  json::value& value = parent[key];
  if (!value.is_array()) value = json::array{};
  return value.get_array();
}

}  // namespace

Result<std::string> oci_config(const ContainerSpec& spec, const std::string& netns_path,
                               const std::string& overlay_root) {
  TRY(const std::string root, bundle_root(spec));
  TRY(const std::string text, read_file(spec.bundle + "/config.json"));
  TRY(json::object config, parse_object(text));

  config["hostname"] = spec.id;
  const bool writable = spec.writable_bytes > 0;
  config["root"] = json::object{{"path", writable ? overlay_root : root}, {"readonly", !writable}};

  json::object& process = object_at(config, "process");
  process["terminal"] = false;
  process["args"] = wrapped_command(spec.command);
  process["cwd"] = spec.cwd;
  if (spec.user) {
    process["user"] = json::object{{"uid", spec.user->first}, {"gid", spec.user->second}};
  }
  json::array& env = array_at(process, "env");
  for (const auto& [key, value] : spec.env) env.emplace_back(key + "=" + value);

  json::array& mounts = array_at(config, "mounts");
  for (const BindMount& mount : spec.mounts) {
    json::array options{"bind", mount.readonly ? "ro" : "rw", "nosuid", "nodev"};
    mounts.push_back(json::object{{"destination", mount.target},
                                  {"type", "bind"},
                                  {"source", mount.source},
                                  {"options", std::move(options)}});
  }

  json::object& os = object_at(config, "linux");
  os.erase("cgroupsPath");  // the cgroup is Lifeboat's
  os.erase("resources");
  os["namespaces"] = json::array{json::object{{"type", "pid"}}, json::object{{"type", "mount"}},
                                 json::object{{"type", "ipc"}}, json::object{{"type", "uts"}},
                                 json::object{{"type", "network"}, {"path", netns_path}}};
  return json::serialize(config);
}

}  // namespace lifeboat
