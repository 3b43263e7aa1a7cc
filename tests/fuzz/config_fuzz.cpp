// The configuration file: one is taken, or every mistake has its place.
#include "config.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  const auto config = parse_config(fuzz::text(data, size), "lab.yaml");
  fuzz::require_good(config);
  if (!config) {
    fuzz::require(config.error().message.starts_with("lab.yaml:"),
                  "a mistake begins with its place");
    return 0;
  }
  fuzz::require(!config->fabrics.empty() && !config->nodes.empty(),
                "a configuration has fabrics and nodes");
  fuzz::require(config->find_fabric(config->default_fabric) != nullptr,
                "the default fabric is one of them");
  return 0;
}
