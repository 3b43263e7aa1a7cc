#include "registry/open.hpp"

#include "registry/embedded.hpp"
#include "registry/etcd.hpp"
#include "registry/remote.hpp"

namespace lifeboat {

namespace {

Result<std::unique_ptr<Registry>> open_etcd(const asio::any_io_executor& executor,
                                            const RegistryConfig& config) {
  EtcdHttp::Settings settings;
  for (const std::string& url : config.endpoints) {
    TRY(EtcdEndpoint endpoint, etcd_endpoint_from(url));
    settings.endpoints.push_back(std::move(endpoint));
  }
  settings.ca = config.ca;
  settings.cert = config.cert;
  settings.key = config.key;
  settings.timeout = config.timeout;
  TRY(std::shared_ptr<EtcdHttp> http, EtcdHttp::create(executor, std::move(settings)));
  return std::make_unique<EtcdRegistry>(executor, std::move(http), config.prefix);
}

}  // namespace

bool keeps_registry(const Config& config, const std::string& node) {
  return config.registry.kind == RegistryKind::kEmbedded && config.registry.node == node;
}

Result<std::unique_ptr<Registry>> open_registry(const asio::any_io_executor& executor, const Config& config,
                                                const LinkSelf& self,
                                                std::function<SteadyClock::time_point()> clock) {
  if (config.registry.kind == RegistryKind::kEtcd) return open_etcd(executor, config.registry);
  if (keeps_registry(config, self.node)) {
    TRY(std::unique_ptr<EmbeddedRegistry> embedded,
        EmbeddedRegistry::open(config.paths.state_dir + "/registry.db", std::move(clock)));
    return embedded;
  }
  RemoteRegistry::Settings settings;
  settings.node = config.registry.node;
  settings.addresses = config.find_node(config.registry.node)->addresses;
  settings.port = config.peer_port;
  settings.self = self;
  settings.timeout = config.registry.timeout;
  return std::make_unique<RemoteRegistry>(executor, std::move(settings));
}

}  // namespace lifeboat
