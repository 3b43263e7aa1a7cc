// pki.hpp - a certificate authority for one cluster, in a directory: for a start, or for good. What `lifeboat
// pki` does; a site's own CA that makes the same certificates (node_certificate.hpp) serves as well.
//
//   ca.key  ca.crt       the CA. ca.key signs whoever may do anything: keep it off the nodes
//   NAME.key  NAME.crt   a node's
//
// Keys are EC P-256 (RFC 5480), mode 0600; certificates X.509 v3 signed with ECDSA and SHA-256.
#pragma once

#include <string>

#include "base/result.hpp"
#include "config.hpp"

namespace lifeboat {

class Pki {
 public:
  explicit Pki(std::string directory) : directory_(std::move(directory)) {}

  // kConflict when there is a CA already.
  [[nodiscard]] Status init(const std::string& cluster, int days) const;
  // kConflict when the node has a certificate already; kNotFound without a CA.
  [[nodiscard]] Status add_node(const std::string& node, NodeRole role, int days) const;
  // Another key and certificate for the same node and role, which take the place of the old ones.
  [[nodiscard]] Status renew(const std::string& node, int days) const;

  [[nodiscard]] std::string path(const std::string& name, const char* suffix) const {
    return directory_ + "/" + name + suffix;
  }

 private:
  [[nodiscard]] Status issue(const std::string& node, NodeRole role, int days) const;

  std::string directory_;
};

}  // namespace lifeboat
