// What other nodes say of themselves, and the plans that are made of it: any answer, however wrong, gives a
// plan in which nothing goes to a node that cannot have it, or an error.
#include "cluster_view.hpp"

#include "evacuation_request.hpp"
#include "fuzz.hpp"

namespace {

using namespace lifeboat;

const char* const kNames[] = {"n1", "n2", "n3"};
constexpr const char* kConfig = R"(
cluster: test
fabrics:
  - {name: 1g, bridge: br, subnet: 10.1.0.0/16, rate: 1Gbit}
  - {name: 10g, bridge: brt, subnet: 10.2.0.0/16, rate: 10Gbit}
nodes:
  - {name: n1, addresses: {1g: 10.1.0.11, 10g: 10.2.0.11}, memory: 8GiB}
  - {name: n2, addresses: {1g: 10.1.0.12, 10g: 10.2.0.12}, memory: 8GiB}
  - {name: n3, addresses: {1g: 10.1.0.13, 10g: 10.2.0.13}, memory: 8GiB}
)";

const Config& config() {
  static const Config parsed = parse_config(kConfig, "lab.yaml").value();
  return parsed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto said = parse_object(fuzz::text(data, size));
  if (!said) return 0;
  // As the agent puts it together: a name and a role of its own configuration, all else as the node says.
  json::array view;
  for (const char* name : kNames) {
    json::object entry{{"name", name}, {"role", "compute"}};
    if (auto answer = get_object(*said, name)) {
      for (const auto& item : **answer) {
        if (item.key() != "name" && item.key() != "role") entry[item.key()] = item.value();
      }
      (void)room_from(name, **answer);
    }
    view.push_back(std::move(entry));
  }
  json::array skipped;
  fuzz::require_good(leavers_from(view, "n1", skipped));
  (void)containers_of(view);
  const predictor::Time noon{std::chrono::seconds(1'700'000'000)};
  (void)storm_text(config().evacuation, view, noon);
  evacuation::Evacuation leaving;
  leaving.node = "n1";
  const auto request = request_from(config(), view, noon, std::move(leaving));
  const auto plan = evacuation::plan_evacuation(request);
  fuzz::require_good(plan);
  if (!plan) return 0;
  for (const evacuation::Step& step : plan->steps) {
    fuzz::require(step.from == "n1" && step.to != "n1", "what leaves goes elsewhere");
    for (const evacuation::Node& node : request.nodes) {
      if (node.name != step.to) continue;
      fuzz::require(node.accepts && node.health == evacuation::Health::kUp, "to a node that takes it");
    }
  }
  return 0;
}
