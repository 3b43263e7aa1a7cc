#include "pki.hpp"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "base/file.hpp"
#include "base/openssl.hpp"
#include "base/yaml_kinds.hpp"
#include "node_certificate.hpp"

namespace lifeboat {

namespace {

constexpr const char* kKey = ".key";
constexpr const char* kCertificate = ".crt";
constexpr const char* kCa = "ca";

struct Issuer {
  KeyPtr key;
  CertificatePtr certificate;
};

// What a certificate is to say.
struct Wish {
  std::string common_name;
  std::string organization;  // the cluster
  int days = 0;
  std::vector<std::pair<int, std::string>> extensions;  // NID and OpenSSL's text for it
};

Result<std::string> text_of(BIO* memory) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(memory, &bytes);
  if (size <= 0) return fail_openssl(Errc::kSystem, "PEM");
  return std::string(bytes, static_cast<std::size_t>(size));
}

Status write_key(const std::string& path, EVP_PKEY* key) {
  const BioPtr memory(BIO_new(BIO_s_secmem()));
  if (!memory || PEM_write_bio_PKCS8PrivateKey(memory.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return fail_openssl(Errc::kSystem, "write " + path);
  }
  TRY(std::string text, text_of(memory.get()));
  const Status written = replace_file(path, text);
  OPENSSL_cleanse(text.data(), text.size());
  return written;
}

Status write_certificate(const std::string& path, X509* certificate) {
  const BioPtr memory(BIO_new(BIO_s_mem()));
  if (!memory || PEM_write_bio_X509(memory.get(), certificate) != 1) {
    return fail_openssl(Errc::kSystem, "write " + path);
  }
  TRY(const std::string text, text_of(memory.get()));
  return replace_file(path, text);
}

Result<CertificatePtr> read_certificate(const std::string& path) {
  TRY(const std::string text, read_file(path));
  const BioPtr memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  CertificatePtr certificate(PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr));
  if (!certificate) return fail_openssl(Errc::kInvalid, "read " + path);
  return certificate;
}

Result<Issuer> read_issuer(const Pki& pki) {
  Issuer issuer;
  const std::string path = pki.path(kCa, kKey);
  if (::access(path.c_str(), F_OK) != 0) {
    return fail(Errc::kNotFound, "there is no CA at " + path + "; make one with: lifeboat pki init");
  }
  TRY(std::string text, read_file(path));
  const BioPtr memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  issuer.key.reset(PEM_read_bio_PrivateKey(memory.get(), nullptr, nullptr, nullptr));
  OPENSSL_cleanse(text.data(), text.size());
  if (!issuer.key) return fail_openssl(Errc::kInvalid, "read " + path);
  TRY(issuer.certificate, read_certificate(pki.path(kCa, kCertificate)));
  return issuer;
}

bool set_subject(X509* certificate, const Wish& wish) {
  X509_NAME* const name = X509_get_subject_name(certificate);
  const auto add = [&](const char* field, const std::string& text) {
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>(text.data()),
                                      static_cast<int>(text.size()), -1, 0) == 1;
  };
  return add("O", wish.organization) && add("CN", wish.common_name);
}

bool set_serial(X509* certificate) {
  unsigned char bytes[16];
  if (RAND_bytes(bytes, sizeof bytes) != 1) return false;
  bytes[0] &= 0x7f;  // positive
  const std::unique_ptr<BIGNUM, OpensslFree<BN_free>> number(BN_bin2bn(bytes, sizeof bytes, nullptr));
  return number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

// Signed by `issuer`, or by itself when that is null.
Result<CertificatePtr> make_certificate(const Wish& wish, EVP_PKEY* key, const Issuer* issuer) {
  constexpr long kSecondsPerDay = 86'400;
  constexpr long kClocksApart = 3600;
  CertificatePtr made(X509_new());
  X509* const certificate = made.get();
  X509* const signer = issuer != nullptr ? issuer->certificate.get() : certificate;
  bool good = certificate != nullptr && X509_set_version(certificate, X509_VERSION_3) == 1 &&
              set_serial(certificate) && set_subject(certificate, wish) &&
              X509_set_issuer_name(certificate, X509_get_subject_name(signer)) == 1 &&
              X509_gmtime_adj(X509_getm_notBefore(certificate), -kClocksApart) != nullptr &&
              X509_gmtime_adj(X509_getm_notAfter(certificate), wish.days * kSecondsPerDay) != nullptr &&
              X509_set_pubkey(certificate, key) == 1;
  for (const auto& [nid, text] : wish.extensions) {
    if (!good) break;
    X509V3_CTX context;
    X509V3_set_ctx(&context, signer, certificate, nullptr, nullptr, 0);
    const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, text.c_str()));
    good = extension && X509_add_ext(certificate, extension.get(), -1) == 1;
  }
  EVP_PKEY* const signing = issuer != nullptr ? issuer->key.get() : key;
  if (!good || X509_sign(certificate, signing, EVP_sha256()) == 0) {
    return fail_openssl(Errc::kSystem, "make a certificate for " + wish.common_name);
  }
  return made;
}

Result<KeyPtr> make_key() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return fail_openssl(Errc::kSystem, "make a key");
  return key;
}

Result<std::string> cluster_of(const X509& ca) {
  char text[128] = "";
  if (X509_NAME_get_text_by_NID(X509_get_subject_name(&ca), NID_organizationName, text, sizeof text) <= 0) {
    return fail(Errc::kInvalid, "the CA's certificate names no cluster (O); was it made by lifeboat pki init?");
  }
  return std::string(text);
}

// As the configuration allows names.
Status check_name(const char* what, const std::string& text) {
  const yaml::Name kind{32};
  if (kind.parse(text)) return {};
  return fail(Errc::kInvalid, std::string(what) + ": expected " + kind.expected() + ", got '" + text + "'");
}

}  // namespace

Status Pki::init(const std::string& cluster, int days) const {
  CHECK_OK(check_name("cluster", cluster));
  if (::access(path(kCa, kKey).c_str(), F_OK) == 0) {
    return fail(Errc::kConflict, path(kCa, kKey) + " exists; a new CA would make all certificates void");
  }
  CHECK_OK(make_directories(directory_));
  TRY(const KeyPtr key, make_key());
  Wish wish;
  wish.common_name = "Lifeboat CA";
  wish.organization = cluster;
  wish.days = days;
  wish.extensions = {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                     {NID_key_usage, "critical,keyCertSign,cRLSign"},
                     {NID_subject_key_identifier, "hash"}};
  TRY(const CertificatePtr certificate, make_certificate(wish, key.get(), nullptr));
  CHECK_OK(write_certificate(path(kCa, kCertificate), certificate.get()));
  return write_key(path(kCa, kKey), key.get());
}

Status Pki::issue(const std::string& node, NodeRole role, int days) const {
  TRY(const Issuer issuer, read_issuer(*this));
  CertificateName name;
  name.node = node;
  name.role = role;
  TRY(name.cluster, cluster_of(*issuer.certificate));
  TRY(const KeyPtr key, make_key());
  Wish wish;
  wish.common_name = node;
  wish.organization = name.cluster;
  wish.days = days;
  wish.extensions = {{NID_basic_constraints, "critical,CA:FALSE"},
                     {NID_key_usage, "critical,digitalSignature"},
                     {NID_ext_key_usage, "serverAuth,clientAuth"},
                     {NID_subject_key_identifier, "hash"},
                     {NID_authority_key_identifier, "keyid:always"},
                     {NID_subject_alt_name, "URI:" + to_uri(name) + ",DNS:" + node}};
  TRY(const CertificatePtr certificate, make_certificate(wish, key.get(), &issuer));
  CHECK_OK(write_key(path(node, kKey), key.get()));
  return write_certificate(path(node, kCertificate), certificate.get());
}

Status Pki::add_node(const std::string& node, NodeRole role, int days) const {
  CHECK_OK(check_name("node", node));
  if (node == kCa) return fail(Errc::kInvalid, "a node cannot be called ca: these files are the CA's");
  if (::access(path(node, kCertificate).c_str(), F_OK) == 0) {
    return fail(Errc::kConflict, path(node, kCertificate) + " exists; another one: lifeboat pki renew " + node);
  }
  return issue(node, role, days);
}

Status Pki::renew(const std::string& node, int days) const {
  CHECK_OK(check_name("node", node));
  TRY(const CertificatePtr old, read_certificate(path(node, kCertificate)));
  TRY(const CertificateName name, name_of(*old));
  return issue(node, name.role, days);
}

}  // namespace lifeboat
