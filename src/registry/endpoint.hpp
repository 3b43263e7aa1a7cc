// endpoint.hpp - where a member of an etcd cluster answers clients.
#pragma once

#include <string>

#include "base/result.hpp"

namespace lifeboat {

// "https://10.77.0.11:2379"
struct EtcdEndpoint {
  std::string host;  // a name or an IPv4 address
  std::string port;
  bool tls = true;
};
// kInvalid: not of this form.
Result<EtcdEndpoint> etcd_endpoint_from(const std::string& url);

}  // namespace lifeboat
