#include "node_certificate.hpp"

#include <algorithm>
#include <optional>

#include "base/openssl.hpp"
#include "base/yaml_kinds.hpp"

namespace lifeboat {

namespace {

constexpr std::string_view kScheme = "lifeboat://";
constexpr std::string_view kNode = "/node/";
constexpr std::string_view kRole = "?role=";
constexpr std::size_t kNameMax = 32;

}  // namespace

std::string to_uri(const CertificateName& name) {
  return std::string(kScheme) + name.cluster + std::string(kNode) + name.node + std::string(kRole) +
         to_string(name.role);
}

Result<CertificateName> certificate_name_from(std::string_view uri) {
  const auto wrong = [&] {
    return fail(Errc::kInvalid, "'" + std::string(uri.substr(0, 200)) +
                                    "' is no name of a node; expected "
                                    "lifeboat://CLUSTER/node/NAME?role=head or role=compute");
  };
  if (!uri.starts_with(kScheme)) return wrong();
  const std::string_view rest = uri.substr(kScheme.size());
  const std::size_t node = rest.find(kNode);
  const std::size_t role = rest.find(kRole);
  if (node == std::string_view::npos || role == std::string_view::npos || role < node + kNode.size()) {
    return wrong();
  }
  CertificateName name;
  const yaml::Name kind{kNameMax};
  const auto cluster = kind.parse(std::string(rest.substr(0, node)));
  const auto named = kind.parse(std::string(rest.substr(node + kNode.size(), role - node - kNode.size())));
  const std::string_view said = rest.substr(role + kRole.size());
  if (!cluster || !named) return wrong();
  name.cluster = *cluster;
  name.node = *named;
  for (const NodeRole known : {NodeRole::kHead, NodeRole::kCompute}) {
    if (said != to_string(known)) continue;
    name.role = known;
    return name;
  }
  return wrong();
}

Result<CertificateName> name_of(const X509& certificate) {
  const NamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  std::optional<CertificateName> found;
  for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_URI) continue;
    const ASN1_STRING* const text = name->d.uniformResourceIdentifier;
    const std::string_view uri(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                               static_cast<std::size_t>(ASN1_STRING_length(text)));
    if (!uri.starts_with(kScheme)) continue;
    if (found) return fail(Errc::kInvalid, "the certificate names more than one node");
    TRY(found, certificate_name_from(uri));
  }
  if (found) return *found;
  return fail(Errc::kInvalid, "the certificate names no node: it needs the alternative name "
                              "URI:lifeboat://CLUSTER/node/NAME?role=ROLE");
}

}  // namespace lifeboat
