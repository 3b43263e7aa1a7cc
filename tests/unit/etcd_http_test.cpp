// Whom etcd's client believes: a TLS server of openssl's that shows one certificate to who asks for `localhost` by
// name, and another one to everybody else.
#include "registry/etcd_http.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "base/file.hpp"

namespace lifeboat {
namespace {

class EtcdHttpTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v openssl >/dev/null 2>&1") != 0) GTEST_SKIP() << "openssl is not installed";
    char name[] = "/tmp/lifeboat-etcd-http-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    shell(R"(
      for name in localhost other; do
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=$name \
          -addext subjectAltName=DNS:$name -keyout $name.key -out $name.crt
      done
      cat localhost.crt other.crt >ca.crt
      openssl s_server -4 -accept 127.0.0.1:$PORT -www -cert other.crt -key other.key \
        -servername localhost -cert2 localhost.crt -key2 localhost.key &
      echo $! >pid)");
  }
  void TearDown() override {
    if (directory_.empty()) return;
    const auto pid = read_file(directory_ + "/pid", 16);
    if (pid) ::kill(static_cast<pid_t>(std::strtol(pid->c_str(), nullptr, 10)), SIGTERM);
    std::filesystem::remove_all(directory_);
  }

  void shell(const std::string& script) {
    const std::string set = "cd " + directory_ + " && PORT=" + port_ + " && exec >log 2>&1\n";
    ASSERT_EQ(std::system((set + script).c_str()), 0);
  }
  Error ask(const std::string& host) {
    EtcdHttp::Settings settings;
    settings.endpoints = {{host, port_, true}};
    settings.ca = directory_ + "/ca.crt";
    settings.timeout = Milliseconds(4'000);
    asio::io_context context{1};
    const auto http = EtcdHttp::create(context.get_executor(), std::move(settings)).value();
    Error said(Errc::kSystem, "nothing");
    const auto post = [&]() -> awaitable<void> {
      json::object nothing;
      auto answer = co_await http->post("/v3/kv/range", std::move(nothing), false);
      if (!answer) said = answer.error();
    };
    run_detached(context.get_executor(), "asking", post());
    context.run();
    return said;
  }
  Error ask_when_it_listens(const std::string& host) {
    for (int attempt = 0;; ++attempt) {
      Error said = ask(host);
      if (attempt == 100 || said.message.find("refused") == std::string::npos) return said;
      std::this_thread::sleep_for(Milliseconds(50));
    }
  }

  std::string directory_;
  std::string port_ = std::to_string(10'000 + ::getpid() % 10'000);
};

// A request that was sent: the server, which is no etcd, has no answer to it.
TEST_F(EtcdHttpTest, ANameIsSaidInTheHandshake) {
  const Error said = ask_when_it_listens("localhost");
  EXPECT_EQ(said.code, Errc::kTimeout) << said.message;
}

TEST_F(EtcdHttpTest, ACertificateForAnotherIsRefused) {
  const Error said = ask_when_it_listens("127.0.0.1");
  EXPECT_EQ(said.code, Errc::kUnavailable) << said.message;
  EXPECT_NE(said.message.find("certificate verify failed"), std::string::npos) << said.message;
}

}  // namespace
}  // namespace lifeboat
