// node_certificate.hpp - who a certificate says that a node is.
//
// In the subject's alternative names there is one URI
//
//   lifeboat://CLUSTER/node/NAME?role=ROLE       ROLE: head or compute
//
// and nothing else is looked at: `lifeboat pki` makes such certificates, and so can a site's own CA.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "config.hpp"

struct x509_st;

namespace lifeboat {

struct CertificateName {
  std::string cluster;
  std::string node;
  NodeRole role = NodeRole::kCompute;
  bool operator==(const CertificateName&) const = default;
};

[[nodiscard]] std::string to_uri(const CertificateName& name);
// kInvalid for anything else than to_uri() makes.
Result<CertificateName> certificate_name_from(std::string_view uri);
// kInvalid when there is no such name in it, or more than one.
Result<CertificateName> name_of(const x509_st& certificate);

}  // namespace lifeboat
