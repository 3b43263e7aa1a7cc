// What a container is: to a peer and back, and what crun is told.
#include "container_spec.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace lifeboat {
namespace {

namespace fs = std::filesystem;

ContainerSpec example() {
  ContainerSpec spec;
  spec.id = "hpl-0";
  spec.job = "hpl";
  spec.bundle = "/bundle";
  spec.command = {"/bin/a", "x y", ""};
  spec.env = {{"A", "1"}, {"B", "=\n"}};
  spec.cwd = "/work";
  spec.mounts = {{"/srv", "/work", false}, {"/data", "/data", true}};
  spec.memory_bytes = 1ULL << 40;
  spec.user = {1000, 4294967294};
  Endpoint endpoint;
  endpoint.fabric = "10g";
  endpoint.mac = "02:00:00:00:00:01";
  endpoint.address = "10.2.1.1";
  endpoint.prefix = 16;
  spec.endpoints = {endpoint};
  return spec;
}

TEST(ContainerSpec, RoundTrip) {
  const json::object sent = to_json(example());
  const auto again = container_spec_from(sent);
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(json::serialize(to_json(*again)), json::serialize(sent));
  EXPECT_EQ(again->env, example().env);
  EXPECT_EQ(again->user, example().user);
  ContainerSpec bare = example();
  bare.user.reset();
  EXPECT_FALSE(container_spec_from(to_json(bare))->user.has_value());
}

// Replaces one member by some JSON; "" removes it.
std::string told(const char* key, const std::string& value) {
  json::object object = to_json(example());
  if (value.empty()) {
    object.erase(key);
  } else {
    object[key] = json::parse(value);
  }
  const auto spec = container_spec_from(object);
  EXPECT_FALSE(spec.has_value()) << key << ": " << value;
  if (spec) return {};
  EXPECT_EQ(spec.error().code, Errc::kProtocol);
  return spec.error().message;
}

TEST(ContainerSpec, EveryMemberIsNeeded) {
  for (const char* key : {"id", "job", "bundle", "cwd"}) {
    EXPECT_EQ(told(key, ""), "member '" + std::string(key) + "' is missing or not a string");
    EXPECT_EQ(told(key, "7"), "member '" + std::string(key) + "' is missing or not a string");
  }
  EXPECT_EQ(told("memory_bytes", ""), "member 'memory_bytes' is missing or not a number");
  for (const char* key : {"command", "mounts", "endpoints"}) {
    EXPECT_EQ(told(key, ""), "member '" + std::string(key) + "' is missing or not a list");
  }
  EXPECT_EQ(told("env", "[]"), "member 'env' is missing or not an object");
}

TEST(ContainerSpec, BadValues) {
  for (const char* id : {"", "../x", "a/b", "A", "a b", "a.b", "-\xc3\xa4"}) {
    EXPECT_EQ(told("id", json::serialize(json::value(id))),
              "'" + std::string(id) + "' is no container id");
  }
  (void)told("id", "\"" + std::string(49, 'a') + "\"");
  EXPECT_EQ(told("command", "[1]"), "command: not all are strings");
  EXPECT_EQ(told("env", R"({"A": 1})"), "env: not all are strings");
  EXPECT_EQ(told("mounts", "[1]"), "mounts: not an object");
  EXPECT_EQ(told("mounts", R"([{"source": "rel", "target": "/x"}])"),
            "mounts: 'rel' on '/x': both must be absolute paths, the target not /");
  EXPECT_EQ(told("mounts", R"([{"source": "/a", "target": "/"}])"),
            "mounts: '/a' on '/': both must be absolute paths, the target not /");
  EXPECT_EQ(told("endpoints", R"([{"fabric":"f","mac":"m","address":"a","prefix":33}])"),
            "endpoints: a prefix longer than 32 bits");
  EXPECT_EQ(told("user", "[1]"), "user: expected [uid, gid]");
  EXPECT_EQ(told("user", "[-1, 1]"), "user: expected two numbers");
  EXPECT_EQ(told("user", "[1, 4294967296]"), "user: expected two numbers");
  json::array many(1025, "x");
  EXPECT_EQ(told("command", json::serialize(many)), "command: too long a list");
  EXPECT_EQ(told("mounts", json::serialize(json::array(1025, 1))), "too many mounts or endpoints");
  EXPECT_EQ(told("endpoints", json::serialize(json::array(17, 1))), "too many mounts or endpoints");
}

class Bundle : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = ::testing::TempDir() + "lifeboat-bundle-XXXXXX";
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    path_ = path;
    fs::create_directory(path_ + "/rootfs");
    spec_ = example();
    spec_.bundle = path_;
    spec_.mounts = {{path_, "/work", true}};
    config(R"({"process": {"env": ["OLD=1"], "args": ["/bin/sh"], "noNewPrivileges": true},
               "mounts": [{"destination": "/proc"}], "root": {"path": "rootfs"},
               "linux": {"cgroupsPath": "/x", "resources": {"memory": {}}, "keep": 1}})");
  }
  void TearDown() override { fs::remove_all(path_); }
  void config(const std::string& text) const { std::ofstream(path_ + "/config.json") << text; }

  std::string path_;
  ContainerSpec spec_;
};

TEST_F(Bundle, WritableRootIsTheOverlay) {
  spec_.writable_bytes = 1 << 20;
  const auto text = oci_config(spec_, "/n", "/run/root");
  ASSERT_TRUE(text.has_value()) << text.error().message;
  EXPECT_EQ(json::parse(*text).at("root"),
            (json::value{{"path", "/run/root"}, {"readonly", false}}));
  const auto again = container_spec_from(to_json(spec_));
  ASSERT_TRUE(again.has_value()) << again.error().message;
  EXPECT_EQ(again->writable_bytes, spec_.writable_bytes);
}

TEST_F(Bundle, OciConfig) {
  const auto text = oci_config(spec_, "/proc/1/ns/net");
  ASSERT_TRUE(text.has_value()) << text.error().message;
  const json::object made = json::parse(*text).as_object();
  EXPECT_EQ(made.at("hostname").as_string(), "hpl-0");
  EXPECT_EQ(made.at("root"), (json::object{{"path", path_ + "/rootfs"}, {"readonly", true}}));
  const json::object& process = made.at("process").as_object();
  EXPECT_EQ(process.at("terminal"), false);
  EXPECT_EQ(process.at("noNewPrivileges"), true);
  EXPECT_EQ(process.at("cwd").as_string(), "/work");
  EXPECT_EQ(process.at("user"), (json::object{{"uid", 1000}, {"gid", 4294967294}}));
  EXPECT_EQ(process.at("env"), (json::array{"OLD=1", "A=1", "B==\n"}));
  const json::array& args = process.at("args").as_array();
  ASSERT_EQ(args.size(), 7u);
  EXPECT_EQ(args[4].as_string(), "/bin/a");
  EXPECT_EQ(args[6].as_string(), "");
  const json::array& mounts = made.at("mounts").as_array();
  ASSERT_EQ(mounts.size(), 2u);
  EXPECT_EQ(mounts[1], (json::object{{"destination", "/work"},
                                     {"type", "bind"},
                                     {"source", path_},
                                     {"options", json::array{"bind", "ro", "nosuid", "nodev"}}}));
  const json::object& os = made.at("linux").as_object();
  EXPECT_FALSE(os.contains("cgroupsPath") || os.contains("resources"));
  EXPECT_EQ(os.at("keep"), 1);
  EXPECT_EQ(os.at("namespaces").as_array().size(), 5u);
  EXPECT_EQ(os.at("namespaces").as_array()[4],
            (json::object{{"type", "network"}, {"path", "/proc/1/ns/net"}}));
}

TEST_F(Bundle, OfTheLeastOrOddKind) {
  config("{}");
  EXPECT_TRUE(oci_config(spec_, "/n").has_value());
  config(R"({"process": 1, "mounts": 2, "linux": [], "root": 3})");
  EXPECT_TRUE(oci_config(spec_, "/n").has_value());
  config("no JSON");
  EXPECT_FALSE(oci_config(spec_, "/n").has_value());
}

// A root path of no characters is as good as none.
TEST_F(Bundle, AnEmptyRootPath) {
  config(R"({"root": {"path": ""}})");
  EXPECT_TRUE(bundle_root(spec_).has_value() || !bundle_root(spec_).error().message.empty());
}

TEST_F(Bundle, ExternalMountsStartWithTheRoot) {
  const auto mounts = external_mounts(spec_);
  ASSERT_TRUE(mounts.has_value());
  ASSERT_EQ(mounts->size(), 2u);
  EXPECT_EQ(mounts->at(0).mount_point, "/");
  EXPECT_EQ(mounts->at(0).source, path_ + "/rootfs");
  EXPECT_EQ(mounts->at(1).mount_point, "/work");
}

TEST_F(Bundle, SaysWhatIsMissing) {
  const auto told = [this] {
    const auto status = check_sources(spec_);
    EXPECT_FALSE(status.has_value());
    if (status) return std::string();
    EXPECT_EQ(status.error().code, Errc::kRefused);
    return status.error().message;
  };
  EXPECT_TRUE(check_sources(spec_).has_value());
  spec_.mounts = {{"/no/such/data", "/data", true}};
  EXPECT_EQ(told(), "/no/such/data, mounted at /data in the container, is missing here");
  fs::remove(path_ + "/rootfs");
  EXPECT_EQ(told(), "bundle " + path_ + ": no root file system at " + path_ + "/rootfs");
  fs::remove(path_ + "/config.json");
  EXPECT_EQ(told(), "no OCI bundle at " + path_ + ": read " + path_ +
                        "/config.json: No such file or directory");
}

}  // namespace
}  // namespace lifeboat
