#include "mpi/job.hpp"

#include <yaml-cpp/emitter.h>
#include <yaml-cpp/emittermanip.h>
#include <yaml-cpp/stlemitter.h>

#include <algorithm>
#include <filesystem>

#include "base/yaml_reader.hpp"

namespace lifeboat {

namespace {

constexpr yaml::Name kName{32};

struct Variable {
  [[nodiscard]] std::string expected() const {
    return "a variable's name of 1 to 256 characters A-Z, a-z, 0-9 or '_' (digits not first)";
  }
  [[nodiscard]] std::optional<std::string> parse(const std::string& text) const {
    const bool good = std::all_of(text.begin(), text.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (!good || text.empty() || text.size() > 256 || (text[0] >= '0' && text[0] <= '9')) {
      return std::nullopt;
    }
    return text;
  }
};

// `base`: what relative paths on the nodes are below; empty if they must be absolute.
void read_job(yaml::Reader& m, const std::string& base, JobSpec& out) {
  m.required("name", out.name, kName);
  m.required("bundle", out.bundle, yaml::Path{base});
  m.list("command", out.command, {1, 1024}, yaml::Text{0, 32768});
  if (!out.command.empty() && out.command[0].empty()) {
    m.mistake("command", "the first entry names the program and must not be empty");
  }
  m.required("containers", out.containers, yaml::Integer{1, 64});
  m.optional("ranks_per_container", out.ranks_per_container, yaml::Integer{1, 64});
  m.optional("memory", out.memory_bytes, yaml::Size{16ull << 20, 1ull << 44});
  bool overlay = false;
  m.optional("root", overlay, yaml::Choice<bool>{{{"read-only", false}, {"overlay", true}}});
  if (overlay) out.writable_bytes = 1ull << 30;
  if (m.has("writable") && !overlay) {
    m.mistake("writable", "only a container with `root: overlay` has something to write to");
  }
  m.optional("writable", out.writable_bytes, yaml::Size{1ull << 20, 1ull << 44});
  m.optional("fabric", out.fabric, yaml::Name{8});
  m.table("env", out.env, {0, 1024}, Variable{}, yaml::Text{0, 32768});
  yaml::Seen targets;
  m.each("mounts", out.mounts, {0, 64}, [&](yaml::Reader& b, JobMount& mount) {
    b.required("source", mount.source, yaml::Path{base});
    if (b.required("target", mount.target, yaml::Path{})) {
      b.unique("target", mount.target, targets);
      if (mount.target == "/") b.mistake("target", "the container's root cannot be mounted over");
    }
    b.optional("readonly", mount.readonly, yaml::Boolean{});
  });
  m.optional("cwd", out.cwd, yaml::Path{});
  m.list("nodes", out.nodes, {0, 1024}, kName);
  if (m.has("user")) {
    m.map("user", [&](yaml::Reader& u) {
      const yaml::Integer id{0, 0xfffffffe};  // the last one means "unchanged" to the kernel
      out.user.emplace();
      u.required("uid", out.user->uid, id);
      u.required("gid", out.user->gid, id);
    });
  }
}

}  // namespace

Result<JobSpec> load_job(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  if (error) return fail(Errc::kSystem, "find the directory of " + path + ": " + error.message());
  const std::string base = absolute.parent_path().string();
  JobSpec job;
  CHECK_OK(yaml::read_file(path, [&](yaml::Reader& m) { read_job(m, base, job); }));
  return job;
}

Result<JobSpec> parse_job(std::string_view text, const std::string& name) {
  JobSpec job;
  CHECK_OK(yaml::read(text, name, [&](yaml::Reader& m) { read_job(m, "", job); }));
  return job;
}

std::string to_yaml(const JobSpec& job) {
  using YAML::BeginMap, YAML::EndMap, YAML::BeginSeq, YAML::EndSeq, YAML::Key, YAML::Value;
  YAML::Emitter out;
  out.SetStringFormat(YAML::DoubleQuoted);  // no text can be taken for anything but itself
  out << BeginMap << Key << "name" << Value << job.name;
  out << Key << "bundle" << Value << job.bundle;
  out << Key << "command" << Value << job.command;
  out << Key << "containers" << Value << job.containers;
  out << Key << "ranks_per_container" << Value << job.ranks_per_container;
  out << Key << "memory" << Value << yaml::size_text(job.memory_bytes);
  if (job.writable_bytes > 0) {
    out << Key << "root" << Value << "overlay";
    out << Key << "writable" << Value << yaml::size_text(job.writable_bytes);
  }
  if (!job.fabric.empty()) out << Key << "fabric" << Value << job.fabric;
  out << Key << "env" << Value << BeginMap;
  for (const auto& [variable, value] : job.env) out << Key << variable << Value << value;
  out << EndMap << Key << "mounts" << Value << BeginSeq;
  for (const JobMount& mount : job.mounts) {
    out << BeginMap << Key << "source" << Value << mount.source;
    out << Key << "target" << Value << mount.target;
    out << Key << "readonly" << Value << (mount.readonly ? "true" : "false") << EndMap;
  }
  out << EndSeq << Key << "cwd" << Value << job.cwd;
  out << Key << "nodes" << Value << job.nodes;
  if (job.user) {
    out << Key << "user" << Value << BeginMap << Key << "uid" << Value << job.user->uid;
    out << Key << "gid" << Value << job.user->gid << EndMap;
  }
  out << EndMap;
  return std::string(out.c_str(), out.size()) + "\n";
}

}  // namespace lifeboat
