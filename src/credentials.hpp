// credentials.hpp - a node's certificate, its key and the CA, as files and as TLS contexts.
//
// TLS 1.3, both sides with certificates that the CA has signed; no session is resumed. The files are
// looked at before each connection and read again when one of them has changed, so a certificate is
// renewed by putting new files in place: connections that exist go on with what they began with. While
// the files are wrong or do not fit each other (in the middle of being replaced) the last good ones count.
#pragma once

#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "config.hpp"
#include "node_certificate.hpp"

struct ssl_ctx_st;
struct ssl_st;

namespace lifeboat {

class Credentials {
 public:
  // kInvalid: a file is missing, does not fit the others or can be read by others; or the certificate is
  // not that of `self`.
  static Result<std::shared_ptr<Credentials>> load(const SecurityConfig& files, CertificateName self);

  // One connection's state; the caller's (SSL_free). Null when there is no memory for it.
  [[nodiscard]] ssl_st* new_connection();

  // Why the files that are there are not in use; empty when they are.
  [[nodiscard]] const std::string& problem() const { return problem_; }
  // Seconds since 1970.
  [[nodiscard]] std::time_t expires() const { return expires_; }

 private:
  // What tells whether a file is another one than before.
  struct Stamp {
    ino_t inode = 0;
    off_t size = 0;
    std::int64_t changed_ns = 0;
    bool operator==(const Stamp&) const = default;
  };
  using Stamps = std::array<Stamp, 3>;

  Credentials(const SecurityConfig& files, CertificateName self)
      : files_(files), self_(std::move(self)) {}
  [[nodiscard]] Stamps look() const;
  Status read();

  SecurityConfig files_;
  CertificateName self_;
  Stamps stamps_{};
  std::shared_ptr<ssl_ctx_st> context_;
  std::string problem_;
  std::time_t expires_ = 0;
};

// After the handshake: the other end's name, which the CA has vouched for.
Result<CertificateName> name_of_peer(const ssl_st& connection);

}  // namespace lifeboat
