#include "page_files.hpp"

#include <algorithm>
#include <iterator>

#include "page_texts.hpp"

namespace lifeboat {

namespace {

constexpr PageFile kFiles[] = {
    {"/", "text/html; charset=utf-8", page_texts::kIndex},
    {"/login", "text/html; charset=utf-8", page_texts::kLogin},
    {"/page.css", "text/css; charset=utf-8", page_texts::kStyle},
    {"/parts.js", "text/javascript; charset=utf-8", page_texts::kParts},
    {"/page.js", "text/javascript; charset=utf-8", page_texts::kScript},
    {"/icon.svg", "image/svg+xml", page_texts::kIcon},
};

}  // namespace

const PageFile* find_page_file(std::string_view path) {
  const auto is_it = [&](const PageFile& file) { return file.path == path; };
  const auto* const at = std::find_if(std::begin(kFiles), std::end(kFiles), is_it);
  return at == std::end(kFiles) ? nullptr : at;
}

HttpResponse page_response(const HttpRequest& request, const PageFile& file, http::status status) {
  HttpResponse response = text_response(request, status, file.content_type, std::string(file.text));
  set_page_headers(response);
  return response;
}

void set_page_headers(HttpResponse& response) {
  response.set("Content-Security-Policy",
               "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
               "form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
  response.set("X-Content-Type-Options", "nosniff");
  response.set("Referrer-Policy", "no-referrer");
  response.set("Cross-Origin-Opener-Policy", "same-origin");
  response.set("Cross-Origin-Resource-Policy", "same-origin");
  response.set(http::field::cache_control, "no-store");
}

}  // namespace lifeboat
