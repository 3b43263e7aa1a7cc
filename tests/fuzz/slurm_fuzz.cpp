// What scontrol and squeue print: users choose names of jobs, and operators reasons.
#include "fuzz.hpp"
#include "slurm/text.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lifeboat;
  const std::string text(fuzz::text(data, size));
  const slurm::Owner owner{"demo", "n2"};
  predictor::NodeState state{predictor::StateTimes{}};
  predictor::SignalDetails details;
  details.text = text;
  state.apply(predictor::StateSignal::kVerdictDegraded, details, predictor::Time(std::chrono::seconds(12)));
  const slurm::NodeWanted wanted = slurm::wanted_for(state, owner);
  fuzz::require(slurm::is_ours(wanted.reason, owner), "what we say is known again");
  fuzz::require(wanted.reason.size() < 256, "a reason is short");
  // As Slurm would show it.
  const auto shown = slurm::node_from("State=IDLE+FAIL\n Reason=" + wanted.reason + " [root@2026-01-31T12:00:00]\n");
  fuzz::require(shown.has_value(), "it is a node");
  fuzz::require(slurm::next_step(wanted, *shown, owner) == slurm::NodeStep::kNothing, "it is said once");
  if (const auto foreign = slurm::node_from(text)) {
    const auto step = slurm::next_step({}, *foreign, owner);
    fuzz::require(step != slurm::NodeStep::kClear || foreign->reason.find("[demo/n2/") != std::string::npos,
                  "nothing but ours is cleared");
  }
  (void)slurm::jobs_from(text);
  (void)slurm::nodes_from(text, owner.cluster);
  (void)slurm::warnings_for({.job_id = "7"}, text);
  return 0;
}
