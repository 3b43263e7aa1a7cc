// openssl.hpp - owners of OpenSSL's objects, and its errors as ours.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>

#include "base/result.hpp"

namespace lifeboat {

template <auto kFree>
struct OpensslFree {
  template <class T>
  void operator()(T* object) const {
    (void)kFree(object);
  }
};

using SslPtr = std::unique_ptr<SSL, OpensslFree<SSL_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, OpensslFree<SSL_CTX_free>>;
using BioPtr = std::unique_ptr<BIO, OpensslFree<BIO_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, OpensslFree<X509_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, OpensslFree<X509_EXTENSION_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, OpensslFree<GENERAL_NAMES_free>>;

// "`what`: " and the reason of the oldest error of this thread, which is taken out.
[[nodiscard]] inline tl::unexpected<Error> fail_openssl(Errc code, const std::string& what) {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  const char* const reason = ERR_reason_error_string(error);
  return fail(code, what + ": " + (reason != nullptr ? reason : "OpenSSL gives no reason"));
}

}  // namespace lifeboat
