// etcd_cluster.hpp - three real etcd servers on loopback, with certificates of their own, for the tests.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "base/file.hpp"
#include "base/process.hpp"
#include "registry/etcd_http.hpp"

namespace lifeboat {

class EtcdCluster {
 public:
  static constexpr int kMembers = 3;

  static bool available() { return std::system("command -v etcd openssl curl >/dev/null 2>&1") == 0; }

  // Started once, ended with the program.
  static EtcdCluster& shared() {
    static EtcdCluster cluster;
    return cluster;
  }

  EtcdCluster(const EtcdCluster&) = delete;
  EtcdCluster& operator=(const EtcdCluster&) = delete;
  ~EtcdCluster() {
    for (int i = 0; i < kMembers; ++i) kill(i);
    std::filesystem::remove_all(directory_);
  }

  [[nodiscard]] EtcdHttp::Settings settings() const {
    EtcdHttp::Settings settings;
    for (int i = 0; i < kMembers; ++i)
      settings.endpoints.push_back({address(i), std::to_string(port_), true});
    settings.ca = directory_ + "/ca.crt";
    settings.cert = directory_ + "/client.crt";
    settings.key = directory_ + "/client.key";
    return settings;
  }

  void kill(int member) { members_[member].kill_and_reap(); }

  void start(int member) {
    const std::string name = "e" + std::to_string(member);
    const std::string base = directory_ + "/" + name;
    const std::string client = "https://" + address(member) + ":" + std::to_string(port_);
    std::string all;
    for (int i = 0; i < kMembers; ++i)
      all += (i > 0 ? "," : "") + ("e" + std::to_string(i) + "=" + peer(i));
    SpawnOptions options;
    // However the test ends, they do.
    options.argv = {"setpriv",
                    "--pdeathsig",
                    "KILL",
                    "etcd",
                    "--name",
                    name,
                    "--data-dir",
                    base,
                    "--logger",
                    "zap",
                    "--log-level",
                    "error",
                    "--listen-client-urls",
                    client,
                    "--advertise-client-urls",
                    client,
                    "--listen-peer-urls",
                    peer(member),
                    "--initial-advertise-peer-urls",
                    peer(member),
                    "--initial-cluster",
                    all,
                    "--initial-cluster-token",
                    directory_,
                    "--client-cert-auth",
                    "--trusted-ca-file",
                    directory_ + "/ca.crt",
                    "--cert-file",
                    base + ".crt",
                    "--key-file",
                    base + ".key",
                    "--peer-client-cert-auth",
                    "--peer-trusted-ca-file",
                    directory_ + "/ca.crt",
                    "--peer-cert-file",
                    base + ".crt",
                    "--peer-key-file",
                    base + ".key",
                    "--heartbeat-interval",
                    "100",
                    "--election-timeout",
                    "1000",
                    "--pre-vote=true"};
    auto process = spawn(options);
    if (process) members_[member] = std::move(*process);
  }

  // Until every member answers.
  void wait_until_ready() const {
    for (int i = 0; i < kMembers; ++i) {
      const std::string command = "curl -sf --max-time 1 --cacert " + directory_ + "/ca.crt --cert " + directory_ +
                                  "/client.crt --key " + directory_ + "/client.key https://" + address(i) + ":" +
                                  std::to_string(port_) + "/health >/dev/null 2>&1";
      for (int attempt = 0; attempt < 100 && std::system(command.c_str()) != 0; ++attempt) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
      }
    }
  }

 private:
  EtcdCluster() {
    // In memory: a disk that takes a second to sync costs the leader its place.
    char name[] = "/dev/shm/lifeboat-etcd-XXXXXX";
    directory_ = ::mkdtemp(name);
    // Other runs of this test on the machine have other ports.
    port_ = 20'000 + ::getpid() % 20'000;
    make_certificates();
    for (int i = 0; i < kMembers; ++i) start(i);
    wait_until_ready();
  }

  // Loopback is 127.0.0.0/8: an address for each.
  [[nodiscard]] static std::string address(int member) { return "127.0.0." + std::to_string(11 + member); }
  [[nodiscard]] std::string peer(int member) const {
    return "https://" + address(member) + ":" + std::to_string(port_ + 1);
  }

  // Members call each other from 127.0.0.1, and etcd compares that with their certificates.
  void make_certificates() const {
    const std::string script = R"(
      set -e
      cd "$0"
      key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
      openssl req -x509 $key -subj /CN=ca -days 2 -keyout ca.key -out ca.crt
      make() {
        openssl req $key -subj "/CN=$1" -keyout $1.key -out $1.csr
        printf "subjectAltName=IP:$2,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n" > $1.ext
        openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile $1.ext -out $1.crt
      }
      make e0 127.0.0.11; make e1 127.0.0.12; make e2 127.0.0.13; make client 127.0.0.1)";
    // The script has quotes of its own, so it goes through a file. What fails shows in the servers.
    const std::string file = directory_ + "/make";
    (void)replace_file(file, script);
    (void)!std::system(("sh -c '. " + file + "' " + directory_ + " >/dev/null 2>&1").c_str());
  }

  std::string directory_;
  int port_ = 0;
  Process members_[kMembers];
};

}  // namespace lifeboat
