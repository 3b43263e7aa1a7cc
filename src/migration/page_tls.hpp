// page_tls.hpp - the TLS session of an encrypted page connection; page_socket.hpp is what uses it.
//
// OpenSSL's state takes one thread at a time, so each call of it is made under a lock, and none of them
// waits: it reads from the socket without blocking, and what it has to send it leaves in memory.
#pragma once

#include <atomic>
#include <mutex>

#include "base/openssl.hpp"
#include "migration/page_socket.hpp"

namespace lifeboat {

class PageSocket::Tls {
 public:
  static Result<std::unique_ptr<Tls>> make(int socket, End end, const PageKey& key, std::uint64_t rekey_bytes);
  ~Tls();

  Result<bool> try_handshake();
  Status send(const std::vector<iovec>& parts, int timeout_s, double& waiting_s);
  Result<std::size_t> receive(std::span<unsigned char> out, const char* what);

  std::atomic<int> receive_timeout_s{0};

 private:
  enum class Outcome { kDone, kNeedsInput, kEnded };

  Tls(int socket, const PageKey& key, std::uint64_t rekey_bytes)
      : socket_(socket), key_(key), rekey_bytes_(rekey_bytes) {}
  tl::unexpected<Error> broken(Error error);
  // What a call of OpenSSL that was not successful means.
  Result<Outcome> judge(int result);
  Status encrypt(const unsigned char* bytes, std::size_t size, int timeout_s);
  Status change_key(std::uint64_t sent);
  // Puts on the wire what OpenSSL has left.
  Status flush(int timeout_s, double& waiting_s);

  static unsigned key_for_client(SSL* ssl, const char* hint, char* identity, unsigned identity_max,
                                 unsigned char* key, unsigned key_max);
  static unsigned key_for_server(SSL* ssl, const char* identity, unsigned char* key, unsigned key_max);
  static unsigned give_key(SSL* ssl, unsigned char* key, unsigned key_max);
  static BIO_METHOD* output_method();
  static int collect(BIO* bio, const char* bytes, int size);

  int socket_;
  PageKey key_;
  std::uint64_t rekey_bytes_;
  std::uint64_t sent_ = 0;  // by this key
  std::mutex state_;        // ssl_, collected_
  SslPtr ssl_;
  std::vector<unsigned char> collected_;
  std::mutex wire_;  // on_wire_: what is collected goes out in its order
  std::vector<unsigned char> on_wire_;
};

}  // namespace lifeboat
