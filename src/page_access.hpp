// page_access.hpp - who may look at the page, and what a browser must not be made to do here.
//
// Over TCP a token is shown: as `Authorization: Bearer TOKEN`, or in the cookie that the form at /login sets.
// A browser can also be led here by somebody else's web page. It tells on itself: it says which name it was
// sent to (Host; with a name of his own for this address, that site could read the answers: "DNS rebinding"),
// and, when it posts, from where (Origin).
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "http_server.hpp"

namespace lifeboat {

// The token in a file that only root may read: 16 to 256 characters of A-Z a-z 0-9 - . _ ~ + / =, and a line's
// end. kInvalid: it is another; kSystem: it cannot be read.
Result<std::string> read_page_token(const std::string& path);

// What a request shows; empty: nothing.
[[nodiscard]] std::string shown_token(const HttpRequest& request);
// The field `token` of a form (application/x-www-form-urlencoded); empty: there is none.
[[nodiscard]] std::string token_of_form(std::string_view body);
// Takes as long for any two tokens.
[[nodiscard]] bool is_same_token(std::string_view one, std::string_view other);

// Set-Cookie for this browser, until it is closed; with an empty token the cookie is taken away.
[[nodiscard]] std::string login_cookie(std::string_view token);

// kRefused: a browser was led here by a web site.
[[nodiscard]] Status check_not_led(const HttpRequest& request);

}  // namespace lifeboat
