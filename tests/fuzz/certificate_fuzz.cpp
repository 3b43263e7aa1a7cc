// Names of nodes in certificates, as a peer shows them before anybody knows who it is: the name alone, and
// in a certificate of any bytes.
#include "fuzz.hpp"
#include "base/openssl.hpp"
#include "node_certificate.hpp"

namespace {

using namespace lifeboat;

void require_name(const Result<CertificateName>& name) {
  fuzz::require_good(name);
  if (!name) return;
  fuzz::require(name->node.find_first_of("/.?") == std::string::npos && !name->cluster.empty(),
                "a name is one");
  const auto again = certificate_name_from(to_uri(*name));
  fuzz::require(again && *again == *name, "a name comes back as it was");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  require_name(certificate_name_from(fuzz::text(data, size)));
  const unsigned char* at = data;
  const CertificatePtr certificate(d2i_X509(nullptr, &at, static_cast<long>(size)));
  if (certificate) require_name(name_of(*certificate));
  ERR_clear_error();
  return 0;
}
