// Certificates that `lifeboat pki` makes, credentials read from them, and links between nodes that have them.
#include "pki.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.hpp"
#include "base/openssl.hpp"
#include "credentials.hpp"
#include "migration/link.hpp"

namespace lifeboat {
namespace {

namespace fs = std::filesystem;
using asio::ip::tcp;
using protocol::Kind;

constexpr Milliseconds kLimit{2000};

// A directory for a test, with a CA of cluster "c".
class PkiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / ("lifeboat-pki-" + std::to_string(::getpid()));
    fs::remove_all(directory_);
    ASSERT_TRUE(pki("a").init("c", 30));
  }
  void TearDown() override { fs::remove_all(directory_); }

  [[nodiscard]] Pki pki(const std::string& name) const { return Pki((directory_ / name).string()); }

  // The files of `node`, made by the CA `name`.
  [[nodiscard]] SecurityConfig files(const std::string& node, const std::string& name = "a") const {
    SecurityConfig config;
    config.ca = pki(name).path("ca", ".crt");
    config.cert = pki(name).path(node, ".crt");
    config.key = pki(name).path(node, ".key");
    return config;
  }

  static CertificateName name(const std::string& node, NodeRole role = NodeRole::kCompute) {
    return {"c", node, role};
  }

  std::shared_ptr<Credentials> credentials(const std::string& node, NodeRole role = NodeRole::kCompute,
                                           const std::string& ca = "a") {
    if (!fs::exists(pki(ca).path(node, ".crt"))) {
      const Status added = pki(ca).add_node(node, role, 30);
      EXPECT_TRUE(added) << added.error().message;
    }
    auto loaded = Credentials::load(files(node, ca), name(node, role));
    EXPECT_TRUE(loaded) << loaded.error().message;
    return loaded ? *loaded : nullptr;
  }

  // What both say of a link from `client` to `server`.
  struct Outcome {
    std::string client;
    std::string server;
    PageKey client_key{1};  // for pages
    PageKey server_key{2};
  };
  static Outcome link(LinkSelf client, LinkSelf server, std::string expected = "there") {
    Outcome outcome;
    asio::io_context context{1};
    tcp::acceptor acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    const auto serve = [](tcp::acceptor& at, LinkSelf self, Outcome& out) -> awaitable<void> {
      auto [error, socket] = co_await at.async_accept(use_tuple);
      Link accepted(std::move(socket));
      auto peer = co_await accepted.accept_hello(self, kLimit);
      if (!peer) {
        out.server = peer.error().message;
        co_return;
      }
      out.server = peer->node + (peer->role ? std::string(" ") + to_string(*peer->role) : "");
      auto frame = co_await accepted.receive(kLimit);
      if (!frame) co_return;
      out.server_key = accepted.export_key("label").value_or(PageKey{3});
      json::object body{{"bytes", frame->payload.size()}};
      (void)co_await accepted.send(Kind::kResponse, std::move(body), kLimit);
    };
    const auto call = [](PeerAddress to, LinkSelf self, Outcome& out) -> awaitable<void> {
      auto made = co_await Link::connect(std::move(to), self, kLimit);
      if (!made) {
        out.client = made.error().message;
        co_return;
      }
      json::object request{{"method", std::string(100'000, 'x')}};
      (void)co_await made->send(Kind::kRequest, std::move(request), kLimit);
      auto answer = co_await made->expect(Kind::kResponse, kLimit);
      out.client = answer ? json::serialize(*answer) : answer.error().message;
      out.client_key = made->export_key("label").value_or(PageKey{4});
    };
    PeerAddress to{std::move(expected), "127.0.0.1", acceptor.local_endpoint().port()};
    asio::co_spawn(context, serve(acceptor, std::move(server), outcome), asio::detached);
    asio::co_spawn(context, call(std::move(to), std::move(client), outcome), asio::detached);
    context.run_for(std::chrono::seconds(10));
    return outcome;
  }

  fs::path directory_;
};

unsigned mode_of(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
}

TEST(CertificateName, Uri) {
  const CertificateName head{"c1", "n-1", NodeRole::kHead};
  EXPECT_EQ(to_uri(head), "lifeboat://c1/node/n-1?role=head");
  const auto back = certificate_name_from(to_uri(head));
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, head);
  for (const char* wrong :
       {"", "lifeboat://", "lifeboat://c/node/n", "lifeboat://c/node/n?role=", "lifeboat://c/node/n?role=root",
        "lifeboat://c/node/?role=head", "lifeboat:///node/n?role=head", "lifeboat://c/n?role=head",
        "lifeboat://c/node/N?role=head", "lifeboat://c/node/a/b?role=head", "lifeboat://c?role=head/node/n",
        "https://c/node/n?role=head", "lifeboat://c/node/n?role=head&role=compute"}) {
    EXPECT_FALSE(certificate_name_from(wrong)) << wrong;
  }
}

TEST_F(PkiTest, FilesAreRootsAlone) {
  ASSERT_TRUE(pki("a").add_node("n1", NodeRole::kCompute, 30));
  EXPECT_EQ(mode_of((directory_ / "a").string()), 0700u);
  EXPECT_EQ(mode_of(pki("a").path("ca", ".key")), 0600u);
  EXPECT_EQ(mode_of(pki("a").path("n1", ".key")), 0600u);
}

TEST_F(PkiTest, NothingIsMadeTwice) {
  EXPECT_EQ(pki("a").init("c", 30).error().code, Errc::kConflict);
  ASSERT_TRUE(pki("a").add_node("n1", NodeRole::kCompute, 30));
  EXPECT_EQ(pki("a").add_node("n1", NodeRole::kHead, 30).error().code, Errc::kConflict);
  EXPECT_EQ(pki("none").add_node("n1", NodeRole::kHead, 30).error().code, Errc::kNotFound);
  EXPECT_EQ(pki("a").renew("n2", 30).error().code, Errc::kSystem);
  EXPECT_EQ(pki("a").add_node("ca", NodeRole::kHead, 30).error().code, Errc::kInvalid);
  EXPECT_EQ(pki("a").add_node("../n", NodeRole::kHead, 30).error().code, Errc::kInvalid);
  EXPECT_EQ(pki("b").init("C", 30).error().code, Errc::kInvalid);
}

TEST_F(PkiTest, CredentialsAreThoseOfTheNode) {
  ASSERT_TRUE(pki("a").add_node("n1", NodeRole::kCompute, 30));
  EXPECT_TRUE(Credentials::load(files("n1"), name("n1")));
  EXPECT_EQ(Credentials::load(files("n1"), name("n2")).error().message,
            "security.cert " + files("n1").cert +
                " is of lifeboat://c/node/n1?role=compute, this node is lifeboat://c/node/n2?role=compute");
  EXPECT_FALSE(Credentials::load(files("n1"), name("n1", NodeRole::kHead)));
  EXPECT_FALSE(Credentials::load(files("n2"), name("n2")));
  SecurityConfig mixed = files("n1");
  ASSERT_TRUE(pki("a").add_node("n2", NodeRole::kCompute, 30));
  mixed.key = files("n2").key;
  EXPECT_FALSE(Credentials::load(mixed, name("n1")));
  mixed = files("n1");
  mixed.cert = files("n1").ca;
  EXPECT_FALSE(Credentials::load(mixed, name("n1")));
}

TEST_F(PkiTest, AKeyThatOthersCanReadIsRefused) {
  ASSERT_TRUE(pki("a").add_node("n1", NodeRole::kCompute, 30));
  for (const mode_t mode : {0640U, 0604U, 0620U}) {
    ASSERT_EQ(::chmod(files("n1").key.c_str(), mode), 0);
    const auto loaded = Credentials::load(files("n1"), name("n1"));
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().message, "security.key " + files("n1").key +
                                          " is not root's alone; chown root and chmod 600 it");
  }
}

TEST_F(PkiTest, NodesTalk) {
  const Outcome said = link({"c", "here", credentials("here")},
                            {"c", "there", credentials("there", NodeRole::kHead)});
  EXPECT_EQ(said.server, "here compute");
  EXPECT_EQ(said.client, R"({"bytes":100013})");
  EXPECT_EQ(said.client_key, said.server_key);
}

TEST_F(PkiTest, EachLinkHasAnotherKey) {
  const auto here = credentials("here");
  const auto there = credentials("there");
  const Outcome one = link({"c", "here", here}, {"c", "there", there});
  const Outcome other = link({"c", "here", here}, {"c", "there", there});
  EXPECT_EQ(one.client_key, one.server_key);
  EXPECT_EQ(other.client_key, other.server_key);
  EXPECT_NE(one.client_key, other.client_key);
}

TEST_F(PkiTest, TheHelloMustBeTheCertificates) {
  const Outcome said = link({"c", "n9", credentials("here")}, {"c", "there", credentials("there")});
  EXPECT_EQ(said.server, "a peer calls itself n9 of cluster c, but its certificate is of "
                         "lifeboat://c/node/here?role=compute");
  EXPECT_EQ(said.client, "hello: " + said.server);
}

TEST_F(PkiTest, TheNodeMustBeTheOneThatWasMeant) {
  const Outcome said = link({"c", "here", credentials("here")}, {"c", "there", credentials("there")}, "n7");
  EXPECT_EQ(said.client, "at 127.0.0.1 is node there, not n7; are the addresses in `nodes` right?");
}

TEST_F(PkiTest, ACertificateOfAnotherCa) {
  ASSERT_TRUE(pki("b").init("c", 30));
  // The server does not trust the client, and the other way round.
  const Outcome said = link({"c", "here", credentials("here", NodeRole::kCompute, "b")},
                            {"c", "there", credentials("there")});
  EXPECT_NE(said.client.find("certificate"), std::string::npos) << said.client;
  EXPECT_NE(said.server, "here compute");
  SecurityConfig trusting = files("here", "b");
  trusting.ca = files("there").ca;
  auto client = Credentials::load(trusting, name("here"));
  ASSERT_TRUE(client);
  const Outcome refused = link({"c", "here", *client}, {"c", "there", credentials("there")});
  EXPECT_NE(refused.server.find("certificate"), std::string::npos) << refused.server;
  EXPECT_NE(refused.client, R"({"bytes":100013})");
}

TEST_F(PkiTest, WhoIsNotEncryptedIsRefused) {
  const Outcome plain_client = link({"c", "here"}, {"c", "there", credentials("there")});
  EXPECT_NE(plain_client.server, "here");
  EXPECT_NE(plain_client.client, R"({"bytes":100013})");
  const Outcome plain_server = link({"c", "here", credentials("here")}, {"c", "there"});
  EXPECT_NE(plain_server.server, "here compute");
  EXPECT_NE(plain_server.client, R"({"bytes":100013})");
}

TEST_F(PkiTest, AnExpiredCertificate) {
  ASSERT_TRUE(pki("a").add_node("here", NodeRole::kCompute, -1));
  const auto here = credentials("here");
  EXPECT_LT(here->expires(), std::time(nullptr));
  const Outcome said = link({"c", "here", here}, {"c", "there", credentials("there")});
  EXPECT_NE(said.server.find("certificate has expired"), std::string::npos) << said.server;
  EXPECT_NE(said.client.find("expired"), std::string::npos) << said.client;
}

TEST_F(PkiTest, RenewedFilesAreTakenWithoutARestart) {
  ASSERT_TRUE(pki("a").add_node("here", NodeRole::kCompute, 1));
  const auto here = credentials("here");
  const auto there = credentials("there");
  const std::time_t before = here->expires();
  ASSERT_TRUE(pki("a").renew("here", 300));
  const Outcome said = link({"c", "here", here}, {"c", "there", there});
  EXPECT_EQ(said.client, R"({"bytes":100013})");
  EXPECT_GT(here->expires(), before);
  EXPECT_EQ(here->problem(), "");
}

TEST_F(PkiTest, WrongFilesLeaveTheOldOnesInUse) {
  const auto here = credentials("here");
  const auto there = credentials("there");
  ASSERT_TRUE(replace_file(files("here").cert, "not a certificate"));
  const Outcome said = link({"c", "here", here}, {"c", "there", there});
  EXPECT_EQ(said.client, R"({"bytes":100013})");
  EXPECT_EQ(here->problem().rfind("security.cert " + files("here").cert, 0), 0u) << here->problem();
  ASSERT_TRUE(pki("a").renew("there", 30));
  fs::copy_file(files("there").cert, files("here").cert, fs::copy_options::overwrite_existing);
  const Outcome again = link({"c", "here", here}, {"c", "there", there});
  EXPECT_EQ(again.client, R"({"bytes":100013})");
  EXPECT_NE(here->problem(), "");
}

}  // namespace
}  // namespace lifeboat
