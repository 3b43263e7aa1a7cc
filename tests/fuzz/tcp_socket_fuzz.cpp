// What the kernel says of a TCP connection, and what a log of CRIU holds.
#include "criu_glue/diagnosis.hpp"
#include "fuzz.hpp"
#include "migration/sockets.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  if (const auto socket = parse_tcp_socket({data, size})) {
    fuzz::require(!to_string(*socket).empty(), "a connection has a name");
    for (const std::string& risk : keepalive_risks({*socket}))
      fuzz::require(!risk.empty(), "a risk says something");
    (void)established_pairs({*socket});
    (void)is_in_flight(*socket);
  }
  const std::string excerpt = criu_log_excerpt(fuzz::text(data, size));
  fuzz::require(excerpt.size() <= 64U << 10, "an excerpt is short");
  (void)criu_advice(fuzz::text(data, size));
  return 0;
}
