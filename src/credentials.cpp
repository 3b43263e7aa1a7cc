#include "credentials.hpp"

#include <unistd.h>

#include "base/openssl.hpp"

namespace lifeboat {

namespace {

// A chain of certificates longer than this is nobody's that we know.
constexpr long kChainBytesMax = 32 * 1024;

Status check_private(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return fail_errno("security.key " + path);
  if ((info.st_mode & 077) != 0 || (info.st_uid != 0 && info.st_uid != ::geteuid())) {
    return fail(Errc::kInvalid, "security.key " + path + " is not root's alone; chown root and chmod 600 it");
  }
  return {};
}

Result<std::time_t> end_of(const X509& certificate) {
  std::tm time{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &time) != 1) {
    return fail(Errc::kInvalid, "the certificate does not say when it expires");
  }
  return ::timegm(&time);
}

}  // namespace

Result<std::shared_ptr<Credentials>> Credentials::load(const SecurityConfig& files, CertificateName self) {
  std::shared_ptr<Credentials> credentials(new Credentials(files, std::move(self)));
  CHECK_OK(credentials->read());
  return credentials;
}

Credentials::Stamps Credentials::look() const {
  Stamps stamps;
  std::size_t i = 0;
  for (const std::string* path : {&files_.ca, &files_.cert, &files_.key}) {
    struct stat info {};
    if (::stat(path->c_str(), &info) == 0) {
      stamps[i] = {info.st_ino, info.st_size, info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec};
    }
    ++i;
  }
  return stamps;
}

Status Credentials::read() {
  stamps_ = look();
  ERR_clear_error();
  CHECK_OK(check_private(files_.key));
  const std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_method()), SSL_CTX_free);
  if (!context) return fail_openssl(Errc::kSystem, "TLS");
  SSL_CTX* const c = context.get();
  SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
  SSL_CTX_set_options(c, SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(c, 0);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_max_cert_list(c, kChainBytesMax);
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  if (SSL_CTX_load_verify_locations(c, files_.ca.c_str(), nullptr) != 1) {
    return fail_openssl(Errc::kInvalid, "security.ca " + files_.ca);
  }
  if (SSL_CTX_use_certificate_chain_file(c, files_.cert.c_str()) != 1) {
    return fail_openssl(Errc::kInvalid, "security.cert " + files_.cert);
  }
  if (SSL_CTX_use_PrivateKey_file(c, files_.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(c) != 1) {
    return fail_openssl(Errc::kInvalid, "security.key " + files_.key);
  }
  const X509& certificate = *SSL_CTX_get0_certificate(c);
  auto name = name_of(certificate);
  if (!name) return tl::unexpected<Error>(name.error().context("security.cert " + files_.cert));
  if (*name != self_) {
    return fail(Errc::kInvalid, "security.cert " + files_.cert + " is of " + to_uri(*name) +
                                    ", this node is " + to_uri(self_));
  }
  TRY(expires_, end_of(certificate));
  context_ = context;
  return {};
}

SSL* Credentials::new_connection() {
  if (look() != stamps_) {
    const Status fresh = read();
    problem_ = fresh ? "" : fresh.error().message;
  }
  return SSL_new(context_.get());
}

Result<CertificateName> name_of_peer(const SSL& connection) {
  const CertificatePtr certificate(SSL_get1_peer_certificate(&connection));
  if (!certificate) return fail(Errc::kRefused, "the peer has shown no certificate");
  return name_of(*certificate);
}

}  // namespace lifeboat
