// Who may look at the page: the token's file, what a request shows, where a browser was led from.
#include "page_access.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "page_files.hpp"

namespace lifeboat {
namespace {

const std::string kToken = "0123456789abcdef-._~+/=";

HttpRequest with(http::field name, const std::string& value) {
  HttpRequest request(http::verb::get, "/", 11);
  request.set(name, value);
  return request;
}

class TokenFile : public testing::Test {
 protected:
  TokenFile() : path_(testing::TempDir() + "page-token-" + std::to_string(::getpid())) {}
  ~TokenFile() override { std::filesystem::remove(path_); }
  std::string read(const std::string& text, mode_t mode = 0600) {
    std::ofstream(path_) << text;
    ::chmod(path_.c_str(), mode);
    const auto token = read_page_token(path_);
    return token ? *token : "error: " + token.error().message;
  }
  std::string path_;
};

TEST_F(TokenFile, IsOneLineThatOnlyRootReads) {
  EXPECT_EQ(read(kToken), kToken);
  EXPECT_EQ(read(kToken + "\n"), kToken);
  EXPECT_EQ(read(kToken + "\r\n"), kToken);
  EXPECT_EQ(read(kToken, 0640), "error: page.token_file " + path_ + " is not root's alone; chown root and chmod 600 it");
  const std::string wrong = "error: page.token_file " + path_ + ": expected one line of 16 to 256 letters, digits and "
                            "-._~+/=, as from `openssl rand -hex 32`";
  EXPECT_EQ(read("0123456789abcde"), wrong);
  EXPECT_EQ(read(""), wrong);
  EXPECT_EQ(read(std::string(257, 'x')), wrong);
  EXPECT_EQ(read(kToken + "\n" + kToken), wrong);
  EXPECT_EQ(read("0123456789abcdef; Domain=x"), wrong);
  std::filesystem::remove(path_);
  const auto none = read_page_token(path_);
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().message, "page.token_file " + path_ + ": No such file or directory");
}

TEST(PageAccess, ATokenIsShownInAHeaderOrACookie) {
  using enum http::field;
  EXPECT_EQ(shown_token(with(authorization, "Bearer " + kToken)), kToken);
  EXPECT_EQ(shown_token(with(authorization, "Bearer  " + kToken + " ")), kToken);
  EXPECT_EQ(shown_token(with(authorization, "Basic " + kToken)), "");
  EXPECT_EQ(shown_token(with(authorization, kToken)), "");
  EXPECT_EQ(shown_token(with(cookie, "lifeboat-page=" + kToken)), kToken);
  EXPECT_EQ(shown_token(with(cookie, "a=b; lifeboat-page=" + kToken + "; c=d")), kToken);
  EXPECT_EQ(shown_token(with(cookie, "xlifeboat-page=" + kToken)), "");
  EXPECT_EQ(shown_token(with(cookie, "lifeboat-page")), "");
  EXPECT_EQ(shown_token(with(cookie, ";;=;lifeboat-page=")), "");
  EXPECT_EQ(shown_token(HttpRequest(http::verb::get, "/", 11)), "");
}

TEST(PageAccess, AFormIsDecoded) {
  EXPECT_EQ(token_of_form("token=0123456789abcdef-._~%2B%2f%3D"), kToken);
  EXPECT_EQ(token_of_form("x=y&token=+ab+"), "ab") << "what was pasted with it";
  EXPECT_EQ(token_of_form("token=a%zz%4"), "a%zz%4");
  EXPECT_EQ(token_of_form("token="), "");
  EXPECT_EQ(token_of_form("nottoken=a"), "");
  EXPECT_EQ(token_of_form(""), "");
}

TEST(PageAccess, TokensAreTheSameOrNot) {
  EXPECT_TRUE(is_same_token(kToken, std::string(kToken)));
  EXPECT_FALSE(is_same_token(kToken, kToken.substr(1)));
  EXPECT_FALSE(is_same_token(kToken, kToken + "0"));
  EXPECT_FALSE(is_same_token(kToken, ""));
}

TEST(PageAccess, TheCookieIsForThisPageAlone) {
  EXPECT_EQ(login_cookie("t"), "lifeboat-page=t; Path=/; HttpOnly; Secure; SameSite=Strict");
  EXPECT_EQ(login_cookie(""), "lifeboat-page=; Path=/; HttpOnly; Secure; SameSite=Strict; Max-Age=0");
}

TEST(PageAccess, ABrowserThatAWebSiteSentIsTurnedAway) {
  using enum http::field;
  for (const char* mine : {"lifeboat", "localhost", "localhost:8080", "n1:9465", "127.0.0.1", "127.0.0.1:80", "[::1]:80",
                           "page.localhost:80", ""}) {
    EXPECT_TRUE(check_not_led(with(host, mine))) << mine;
  }
  for (const char* foreign : {"evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1"}) {
    EXPECT_FALSE(check_not_led(with(host, foreign))) << foreign;
  }
  HttpRequest posted = with(host, "localhost:8080");
  posted.method(http::verb::post);
  EXPECT_TRUE(check_not_led(posted)) << "curl";
  posted.set(origin, "null");
  EXPECT_FALSE(check_not_led(posted));
  posted.method(http::verb::get);
  EXPECT_TRUE(check_not_led(posted)) << "the page itself";
}

TEST(PageFiles, AreInTheProgramAndFetchNothing) {
  for (const char* path : {"/", "/login", "/page.css", "/parts.js", "/page.js", "/icon.svg"}) {
    const PageFile* const file = find_page_file(path);
    ASSERT_NE(file, nullptr) << path;
    EXPECT_GT(file->text.size(), 200u) << path;
    EXPECT_LT(file->text.size(), 64u << 10) << path;
    EXPECT_EQ(file->text.find("https:"), std::string_view::npos) << path;
    EXPECT_EQ(file->text.find("innerHTML"), std::string_view::npos) << path;
    EXPECT_EQ(file->text.find("style=\""), std::string_view::npos) << path << ": the policy forbids it";
  }
  EXPECT_EQ(find_page_file("/page.css?x"), nullptr);
  EXPECT_EQ(find_page_file("/../page.css"), nullptr);
  const HttpResponse response = page_response(HttpRequest(http::verb::get, "/", 11), *find_page_file("/"));
  EXPECT_EQ(response[http::field::cache_control], "no-store");
  EXPECT_TRUE(response["Content-Security-Policy"].starts_with("default-src 'none'; script-src 'self';"));
}

}  // namespace
}  // namespace lifeboat
