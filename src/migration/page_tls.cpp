#include "migration/page_tls.hpp"

#include <openssl/crypto.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "migration/page_wait.hpp"

namespace lifeboat {

namespace {

constexpr const char* kIdentity = "lifeboat-pages";
constexpr std::size_t kRecordBytes = SSL3_RT_MAX_PLAIN_LENGTH;  // 16 KiB
constexpr std::size_t kReadAheadBytes = 256U << 10;
constexpr int kLookMs = 10;
constexpr int kAlertLimit_s = 1;

// One for each end and process. The target has no certificate and the source trusts nobody's: neither can
// be talked into anything but the shared key.
SSL_CTX* context_of(PageSocket::End end) {
  const auto make = [](const SSL_METHOD* method) {
    SSL_CTX* const context = SSL_CTX_new(method);
    if (context == nullptr) return context;
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    // An end without a farewell is an end: the records say themselves where it may come.
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, kReadAheadBytes);
    return context;
  };
  static SSL_CTX* const source = [&] {
    SSL_CTX* const context = make(TLS_client_method());
    if (context != nullptr) SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    return context;
  }();
  static SSL_CTX* const target = make(TLS_server_method());
  return end == PageSocket::End::kSource ? source : target;
}

}  // namespace

unsigned PageSocket::Tls::give_key(SSL* ssl, unsigned char* key, unsigned key_max) {
  const auto* const tls = static_cast<const Tls*>(SSL_get_app_data(ssl));
  if (key_max < tls->key_.size()) return 0;
  std::copy(tls->key_.begin(), tls->key_.end(), key);
  return static_cast<unsigned>(tls->key_.size());
}

unsigned PageSocket::Tls::key_for_client(SSL* ssl, const char*, char* identity, unsigned identity_max,
                                         unsigned char* key, unsigned key_max) {
  if (std::strlen(kIdentity) >= identity_max) return 0;
  std::strcpy(identity, kIdentity);
  return give_key(ssl, key, key_max);
}

unsigned PageSocket::Tls::key_for_server(SSL* ssl, const char* identity, unsigned char* key,
                                         unsigned key_max) {
  if (std::strcmp(identity, kIdentity) != 0) return 0;
  return give_key(ssl, key, key_max);
}

int PageSocket::Tls::collect(BIO* bio, const char* bytes, int size) {
  auto& collected = static_cast<Tls*>(BIO_get_data(bio))->collected_;
  const auto* const first = reinterpret_cast<const unsigned char*>(bytes);
  collected.insert(collected.end(), first, first + size);
  return size;
}

BIO_METHOD* PageSocket::Tls::output_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pages to send");
    if (made == nullptr) return made;
    BIO_meth_set_write(made, collect);
    BIO_meth_set_ctrl(made, [](BIO*, int command, long, void*) -> long {
      return command == BIO_CTRL_FLUSH ? 1 : 0;
    });
    return made;
  }();
  return method;
}

Result<std::unique_ptr<PageSocket::Tls>> PageSocket::Tls::make(int socket, End end, const PageKey& key,
                                                               std::uint64_t rekey_bytes) {
  std::unique_ptr<Tls> tls(new Tls(socket, key, rekey_bytes));
  SSL_CTX* const context = context_of(end);
  tls->ssl_.reset(context == nullptr ? nullptr : SSL_new(context));
  BioPtr input(BIO_new_socket(socket, BIO_NOCLOSE));
  BioPtr output(output_method() == nullptr ? nullptr : BIO_new(output_method()));
  if (!tls->ssl_ || !input || !output) return fail_openssl(Errc::kSystem, "TLS of a page connection");
  SSL* const ssl = tls->ssl_.get();
  BIO_set_data(output.get(), tls.get());
  BIO_set_init(output.get(), 1);
  SSL_set_bio(ssl, input.release(), output.release());
  SSL_set_app_data(ssl, tls.get());
  if (end == End::kSource) {
    SSL_set_psk_client_callback(ssl, key_for_client);
    SSL_set_connect_state(ssl);
  } else {
    SSL_set_psk_server_callback(ssl, key_for_server);
    SSL_set_accept_state(ssl);
  }
  return tls;
}

PageSocket::Tls::~Tls() { OPENSSL_cleanse(key_.data(), key_.size()); }

// Under state_, right after the call.
Result<PageSocket::Tls::Outcome> PageSocket::Tls::judge(int result) {
  const int system_error = errno;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_NONE: return Outcome::kDone;
    case SSL_ERROR_WANT_READ: return Outcome::kNeedsInput;
    case SSL_ERROR_ZERO_RETURN: return Outcome::kEnded;
    case SSL_ERROR_SYSCALL:
      return tl::unexpected<Error>(page_socket_error(socket_, system_error, "page connection with"));
    default: return fail_openssl(Errc::kProtocol, "the encryption of a page connection");
  }
}

// The peer is told, if there is something to tell it.
tl::unexpected<Error> PageSocket::Tls::broken(Error error) {
  double waiting_s = 0;
  (void)flush(kAlertLimit_s, waiting_s);
  return tl::unexpected<Error>(std::move(error));
}

Result<bool> PageSocket::Tls::try_handshake() {
  Result<Outcome> outcome = Outcome::kDone;
  {
    const std::lock_guard lock(state_);
    ERR_clear_error();
    outcome = judge(SSL_do_handshake(ssl_.get()));
  }
  if (!outcome) return broken(outcome.error());
  double waiting_s = 0;
  CHECK_OK(flush(kAlertLimit_s, waiting_s));  // less than a socket holds
  if (*outcome == Outcome::kEnded) {
    return tl::unexpected<Error>(page_socket_error(socket_, 0, "page connection with"));
  }
  return *outcome == Outcome::kDone;
}

Status PageSocket::Tls::flush(int timeout_s, double& waiting_s) {
  const std::lock_guard lock(wire_);
  {
    const std::lock_guard state(state_);
    on_wire_.swap(collected_);
    collected_.clear();
  }
  if (on_wire_.empty()) return {};
  std::vector<iovec> parts{{on_wire_.data(), on_wire_.size()}};
  return send_plain(socket_, parts, timeout_s, waiting_s);
}

Status PageSocket::Tls::change_key(std::uint64_t sent) {
  sent_ += sent;
  if (sent_ < rekey_bytes_) return {};
  sent_ = 0;
  if (SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1) return {};
  return fail_openssl(Errc::kSystem, "another key for a page connection");
}

Status PageSocket::Tls::encrypt(const unsigned char* bytes, std::size_t size, int timeout_s) {
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    Result<Outcome> outcome = Outcome::kDone;
    {
      const std::lock_guard lock(state_);
      ERR_clear_error();
      std::size_t written = 0;
      if (SSL_write_ex(ssl_.get(), bytes, size, &written) == 1) return change_key(size);
      outcome = judge(0);
    }
    if (!outcome) return broken(outcome.error());
    if (*outcome != Outcome::kNeedsInput) {
      return tl::unexpected<Error>(page_socket_error(socket_, 0, "send pages to"));
    }
    // The handshake is not complete. What this thread waits for, one that receives may have read already.
    double waiting_s = 0;
    CHECK_OK(flush(timeout_s, waiting_s));
    if (timeout_s > 0 && std::chrono::steady_clock::now() - start > std::chrono::seconds(timeout_s)) {
      return tl::unexpected<Error>(page_socket_error(socket_, EAGAIN, "send pages to"));
    }
    pollfd polled{socket_, POLLIN, 0};
    (void)::poll(&polled, 1, kLookMs);
  }
}

// Headers and small runs of pages share records: a record costs 22 bytes and a third of a microsecond.
Status PageSocket::Tls::send(const std::vector<iovec>& parts, int timeout_s, double& waiting_s) {
  std::array<unsigned char, kRecordBytes> gathered;
  std::size_t have = 0;
  for (const iovec& part : parts) {
    std::span<const unsigned char> left(static_cast<const unsigned char*>(part.iov_base), part.iov_len);
    while (!left.empty()) {
      const bool direct = have == 0 && left.size() >= kRecordBytes;
      const std::size_t take = direct ? left.size() / kRecordBytes * kRecordBytes
                                      : std::min(left.size(), kRecordBytes - have);
      if (direct) {
        CHECK_OK(encrypt(left.data(), take, timeout_s));
      } else {
        std::copy_n(left.data(), take, gathered.data() + have);
        have += take;
      }
      left = left.subspan(take);
      if (have < kRecordBytes) continue;
      CHECK_OK(encrypt(gathered.data(), have, timeout_s));
      have = 0;
    }
  }
  if (have > 0) CHECK_OK(encrypt(gathered.data(), have, timeout_s));
  return flush(timeout_s, waiting_s);
}

Result<std::size_t> PageSocket::Tls::receive(std::span<unsigned char> out, const char* what) {
  for (;;) {
    Result<Outcome> outcome = Outcome::kDone;
    std::size_t n = 0;
    bool handshake = false;
    {
      const std::lock_guard lock(state_);
      handshake = SSL_is_init_finished(ssl_.get()) == 0;
      ERR_clear_error();
      errno = 0;
      if (SSL_read_ex(ssl_.get(), out.data(), out.size(), &n) == 1) return n;
      outcome = judge(0);
    }
    if (!outcome) return broken(outcome.error());
    if (*outcome == Outcome::kEnded) return std::size_t{0};
    // Otherwise there is nothing of ours, and who sends must not be waited for.
    double waiting_s = 0;
    if (handshake) CHECK_OK(flush(receive_timeout_s, waiting_s));
    CHECK_OK(wait_for_socket(socket_, POLLIN, receive_timeout_s, what));
  }
}

}  // namespace lifeboat
