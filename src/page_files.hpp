// page_files.hpp - the page's own files (src/page), which are in the program.
#pragma once

#include <string_view>

#include "http_server.hpp"

namespace lifeboat {

struct PageFile {
  std::string_view path;  // of the URL
  std::string_view content_type;
  std::string_view text;
};

// nullptr: there is none at that path.
[[nodiscard]] const PageFile* find_page_file(std::string_view path);

// The answer with that file.
[[nodiscard]] HttpResponse page_response(const HttpRequest& request, const PageFile& file,
                                         http::status status = http::status::ok);
// What a browser is told to keep to: nothing from elsewhere, in no other page, kept nowhere.
void set_page_headers(HttpResponse& response);

}  // namespace lifeboat
