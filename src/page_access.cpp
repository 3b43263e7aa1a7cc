#include "page_access.hpp"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/file.hpp"
#include "base/text.hpp"

namespace lifeboat {

namespace {

constexpr std::string_view kCookie = "lifeboat-page";
constexpr std::size_t kTokenMin = 16;
constexpr std::size_t kTokenMax = 256;

// b64token of RFC 6750, section 2.1; all of them may stand in a cookie.
bool is_token_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("-._~+/=").find(c) != std::string_view::npos;
}

std::string_view view_of(beast::string_view text) { return {text.data(), text.size()}; }

// The value of `name` among "a=1; b=2".
std::string_view value_of(std::string_view pairs, std::string_view name, char separator) {
  while (!pairs.empty()) {
    const auto end = pairs.find(separator);
    const std::string_view pair = trimmed(pairs.substr(0, end));
    pairs = end == std::string_view::npos ? std::string_view() : pairs.substr(end + 1);
    if (pair.size() > name.size() && pair.starts_with(name) && pair[name.size()] == '=') {
      return pair.substr(name.size() + 1);
    }
  }
  return {};
}

std::string form_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    if (low >= 0) {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

Digest digest_of(std::string_view text) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

// A name that no web site can have: nobody has registered one without a dot.
bool is_local(std::string_view host) {
  if (host.starts_with("[::1]")) return true;
  const std::string_view name = host.substr(0, host.find(':'));
  return name.find('.') == std::string_view::npos || name.ends_with(".localhost") ||
         (name.starts_with("127.") && name.find_first_not_of("0123456789.") == std::string_view::npos);
}

}  // namespace

Result<std::string> read_page_token(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return fail_errno("page.token_file " + path);
  if ((info.st_mode & 077) != 0 || (info.st_uid != 0 && info.st_uid != ::geteuid())) {
    return fail(Errc::kInvalid, "page.token_file " + path + " is not root's alone; chown root and chmod 600 it");
  }
  TRY(const std::string text, read_file(path));
  const std::string token = text.substr(0, text.find_last_not_of("\r\n") + 1);
  if (token.size() < kTokenMin || token.size() > kTokenMax ||
      !std::all_of(token.begin(), token.end(), is_token_character)) {
    return fail(Errc::kInvalid, "page.token_file " + path +
                                    ": expected one line of 16 to 256 letters, digits and -._~+/=, as from "
                                    "`openssl rand -hex 32`");
  }
  return token;
}

std::string shown_token(const HttpRequest& request) {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view shown = view_of(request[http::field::authorization]);
  if (shown.starts_with(kBearer)) return std::string(trimmed(shown.substr(kBearer.size())));
  return std::string(value_of(view_of(request[http::field::cookie]), kCookie, ';'));
}

std::string token_of_form(std::string_view body) {
  return std::string(trimmed(form_decoded(value_of(body, "token", '&'))));
}

bool is_same_token(std::string_view one, std::string_view other) {
  const Digest a = digest_of(one);
  const Digest b = digest_of(other);
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string login_cookie(std::string_view token) {
  return std::string(kCookie) + "=" + std::string(token) + "; Path=/; HttpOnly; Secure; SameSite=Strict" +
         (token.empty() ? "; Max-Age=0" : "");
}

Status check_not_led(const HttpRequest& request) {
  const std::string_view host = view_of(request[http::field::host]);
  if (!is_local(host)) {
    return fail(Errc::kRefused, "'" + std::string(host.substr(0, 100)) +
                                    "' may be a web site's name; ask for localhost, or a name without dots");
  }
  if (request.method() != http::verb::get && request.find(http::field::origin) != request.end()) {
    return fail(Errc::kRefused, "a browser may look, and order nothing; use the lifeboat command");
  }
  return {};
}

}  // namespace lifeboat
