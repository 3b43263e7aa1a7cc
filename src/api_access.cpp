#include "api_access.hpp"

#include <grp.h>
#include <sys/socket.h>

#include <algorithm>

namespace lifeboat {

Result<ApiCaller> api_caller(int socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return fail_errno("who calls (SO_PEERCRED)");
  }
  constexpr std::size_t kGroupsMax = 65536;  // the kernel's own limit
  std::vector<gid_t> groups(256);
  for (;;) {
    size = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0) break;
    if (errno != ERANGE || groups.size() >= kGroupsMax) return fail_errno("who calls (SO_PEERGROUPS)");
    groups.resize(kGroupsMax);
  }
  groups.resize(size / sizeof(gid_t));
  groups.push_back(credentials.gid);
  return ApiCaller{credentials.uid, std::move(groups)};
}

Result<ApiAccess::Group> ApiAccess::find(const std::string& name, const char* key) {
  Group group;
  group.name = name;
  if (name.empty()) return group;
  const struct group* const entry = ::getgrnam(name.c_str());
  if (entry == nullptr) {
    return fail(Errc::kNotFound, std::string(key) + ": there is no group '" + name + "' on this machine");
  }
  group.id = entry->gr_gid;
  return group;
}

bool ApiAccess::Group::has(const ApiCaller& caller) const {
  return id && std::find(caller.groups.begin(), caller.groups.end(), *id) != caller.groups.end();
}

Result<ApiAccess> ApiAccess::make(const std::string& admin_group, const std::string& read_group) {
  ApiAccess access;
  TRY(access.admin_, find(admin_group, "security.admin_group"));
  TRY(access.read_, find(read_group, "security.read_group"));
  return access;
}

Status ApiAccess::check(const ApiCaller& caller, bool reads_only) const {
  if (caller.uid == 0 || admin_.has(caller) || (reads_only && read_.has(caller))) return {};
  std::string who = "root";
  if (admin_.id) who += ", group " + admin_.name + " (security.admin_group)";
  if (reads_only && read_.id) who += ", group " + read_.name + " (security.read_group)";
  return fail(Errc::kRefused, std::string(reads_only ? "this" : "anything but looking") + " is for " + who +
                                  "; user " + std::to_string(caller.uid) + " is in none");
}

}  // namespace lifeboat
