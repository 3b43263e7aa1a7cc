// api_access.hpp - who may use the operator's socket: the kernel says which user and groups the caller has
// (SO_PEERCRED, SO_PEERGROUPS), as they were when it connected.
//
//   root, members of security.admin_group   everything
//   members of security.read_group          GET
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace lifeboat {

struct ApiCaller {
  uid_t uid = 0;
  std::vector<gid_t> groups;  // the primary one, too
};

// Of a connected unix socket.
Result<ApiCaller> api_caller(int socket);

class ApiAccess {
 public:
  // Groups by name; empty: none. kNotFound when this machine has no such group.
  static Result<ApiAccess> make(const std::string& admin_group, const std::string& read_group);

  // kRefused with the groups that may.
  [[nodiscard]] Status check(const ApiCaller& caller, bool reads_only) const;
  [[nodiscard]] bool root_only() const { return !admin_.id && !read_.id; }

 private:
  struct Group {
    std::string name;
    std::optional<gid_t> id;
    [[nodiscard]] bool has(const ApiCaller& caller) const;
  };
  static Result<Group> find(const std::string& name, const char* key);

  Group admin_;
  Group read_;
};

}  // namespace lifeboat
