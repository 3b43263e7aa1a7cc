#include "slurm/commands.hpp"

#include <algorithm>

#include "base/process.hpp"

namespace lifeboat::slurm {

namespace {

struct Printed {
  bool failed = false;
  std::string text;
};

awaitable<Result<Printed>> run(SlurmConfig config, std::vector<std::string> argv) {
  const std::string name = argv[0];
  if (!config.bin.empty()) argv[0] = config.bin + "/" + name;
  SpawnOptions options;
  options.argv = std::move(argv);
  auto done = co_await run_tool(std::move(options), config.timeout);
  if (!done && done.error().code == Errc::kTimeout) {
    co_return fail(Errc::kTimeout, name + " has not answered within " + std::to_string(config.timeout.count()) + " ms");
  }
  if (!done) {
    co_return fail(Errc::kUnavailable, done.error().message + "; is Slurm installed on this node? (slurm.bin)");
  }
  Printed printed;
  printed.failed = done->status.code != 0;
  printed.text = std::move(done->text);
  co_return printed;
}

// As a person is to read it: the last line that it printed.
tl::unexpected<Error> failed(const std::string& what, const std::string& text) {
  constexpr std::size_t kSaidMax = 300;
  const std::vector<std::string> lines = lines_of(text);
  const std::string said = lines.empty() ? "it failed and said nothing" : lines.back().substr(0, kSaidMax);
  return fail(Errc::kSystem, what + ": " + said);
}

awaitable<Result<std::string>> ask(SlurmConfig config, std::vector<std::string> argv) {
  const std::string what = argv[0] + " " + argv[1];
  CO_TRY(Printed printed, co_await run(std::move(config), std::move(argv)));
  if (printed.failed) co_return failed(what, printed.text);
  co_return std::move(printed.text);
}

}  // namespace

awaitable<Result<NodeShown>> show_node(SlurmConfig config, std::string node) {
  std::vector<std::string> argv{"scontrol", "show", "node", node};
  CO_TRY(const std::string text, co_await ask(std::move(config), std::move(argv)));
  co_return node_from(text);
}

awaitable<Status> set_node(SlurmConfig config, std::string node, NodeWanted wanted) {
  std::vector<std::string> argv{"scontrol", "update", "nodename=" + node,
                                wanted.state == NodeWish::kFail ? "state=FAIL" : "state=DRAIN",
                                "reason=" + wanted.reason};
  CO_CHECK_OK(co_await ask(std::move(config), std::move(argv)));
  co_return Status{};
}

awaitable<Status> clear_node(SlurmConfig config, std::string node) {
  std::vector<std::string> argv{"scontrol", "update", "nodename=" + node, "state=UNDRAIN"};
  CO_CHECK_OK(co_await ask(std::move(config), std::move(argv)));
  co_return Status{};
}

awaitable<Result<std::vector<std::string>>> nodes_of_job(SlurmConfig config, std::uint64_t job) {
  std::vector<std::string> argv{"squeue", "-h", "-t", "all", "-j", std::to_string(job), "-o", "%A|%T|%N"};
  CO_TRY(const Printed printed, co_await run(config, std::move(argv)));
  // What it says of a job that has been forgotten.
  if (printed.failed && printed.text.find("Invalid job id") != std::string::npos) {
    co_return std::vector<std::string>{};
  }
  if (printed.failed) co_return failed("squeue", printed.text);
  CO_TRY(const std::vector<JobListed> jobs, jobs_from(printed.text));
  const auto at = std::find_if(jobs.begin(), jobs.end(), [&](const JobListed& one) { return one.id == job; });
  if (at == jobs.end() || !at->has_nodes || at->nodes.empty()) co_return std::vector<std::string>{};
  std::vector<std::string> expand{"scontrol", "show", "hostnames", at->nodes};
  CO_TRY(const std::string names, co_await ask(std::move(config), std::move(expand)));
  co_return lines_of(names);
}

awaitable<Result<NodesListed>> list_nodes(SlurmConfig config, std::string cluster) {
  std::vector<std::string> argv{"sinfo", "-h", "-N", "-o", "%N|%T|%E"};
  CO_TRY(const std::string text, co_await ask(std::move(config), std::move(argv)));
  co_return nodes_from(text, cluster);
}

awaitable<Result<std::string>> batch_script(SlurmConfig config, std::string job) {
  std::vector<std::string> argv{"scontrol", "write", "batch_script", job, "-"};
  co_return co_await ask(std::move(config), std::move(argv));
}

}  // namespace lifeboat::slurm
