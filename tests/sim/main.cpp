// simulation: millions of migrations in a simulated cluster, with faults; see world.hpp.
#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

#include "sim/world.hpp"

using namespace lifeboat::sim;

namespace {

void add(Counts& sum, const Counts& one) {
  std::uint64_t Counts::*const members[] = {
      &Counts::begun,       &Counts::committed, &Counts::aborted,          &Counts::plans,
      &Counts::steps,       &Counts::crashes,   &Counts::power_cuts,       &Counts::partitions,
      &Counts::saved_alone, &Counts::doubts,    &Counts::registry_outages, &Counts::lost,
      &Counts::fenced,      &Counts::given_up,  &Counts::events,           &Counts::registry_requests,
      &Counts::registry_swaps, &Counts::stops};
  for (const auto member : members) sum.*member += one.*member;
  sum.doubt_longest = std::max(sum.doubt_longest, one.doubt_longest);
  sum.plan_ms_longest = std::max(sum.plan_ms_longest, one.plan_ms_longest);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Simulates clusters whose nodes, daemons, networks and registry fail, and checks after every event that each\n"
      "container runs once at most, and in the end once. The decisions, the ownership records and the plans are\n"
      "the product's own code. Odd seeds have the registry in a daemon, even ones outside.\n"
      "Exit status: 0; 1 and the seed when something is wrong."};
  Settings settings;
  std::uint64_t runs = 20;
  unsigned threads = std::max(1U, std::thread::hardware_concurrency());
  app.add_option("--runs", runs, "clusters, each of its own seed")->capture_default_str();
  app.add_option("--seed", settings.seed, "of the first")->capture_default_str();
  app.add_option("--nodes", settings.nodes)->capture_default_str()->check(CLI::Range(2, 100000));
  app.add_option("--containers", settings.containers, "in each cluster")->capture_default_str();
  app.add_option("--migrations", settings.migrations, "in each cluster")->capture_default_str();
  app.add_option("--faults", settings.faults, "how often, 1: about one in 8 s of 50 nodes; 0: none")
      ->capture_default_str();
  app.add_option("--trace", settings.trace, "CONTAINER: prints what happens to it");
  app.add_option("--threads", threads)->capture_default_str()->check(CLI::Range(1, 256));
  CLI11_PARSE(app, argc, argv);

  const auto began = std::chrono::steady_clock::now();
  std::atomic<std::uint64_t> next = 0;
  std::atomic<unsigned> failures = 0;
  std::vector<Counts> sums(threads);
  const auto work = [&](unsigned thread) {
    for (;;) {
      const std::uint64_t run = next++;
      if (run >= runs || failures > 0) return;
      Settings own = settings;
      own.seed += run;
      own.embedded = own.seed % 2 == 1;
      World world(own);
      const std::string wrong = world.run();
      add(sums[thread], world.counts());
      if (wrong.empty()) continue;
      ++failures;
      std::printf("WRONG in seed %llu: %s\n  again: simulation --runs 1 --seed %llu --nodes %zu --containers %zu "
                  "--migrations %llu --faults %g [--trace CONTAINER]\n",
                  static_cast<unsigned long long>(own.seed), wrong.c_str(),
                  static_cast<unsigned long long>(own.seed), own.nodes, own.containers,
                  static_cast<unsigned long long>(own.migrations), own.faults);
    }
  };
  std::vector<std::thread> workers;
  for (unsigned thread = 0; thread < threads; ++thread) workers.emplace_back(work, thread);
  for (std::thread& worker : workers) worker.join();
  Counts sum;
  for (const Counts& one : sums) add(sum, one);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  const auto n = [](std::uint64_t number) { return static_cast<unsigned long long>(number); };
  std::printf("%llu migrations begun (%llu committed, %llu aborted) in %llu clusters of %zu nodes; %llu plans with "
              "%llu steps\n", n(sum.begun), n(sum.committed), n(sum.aborted), n(std::min<std::uint64_t>(next, runs)),
              settings.nodes, n(sum.plans), n(sum.steps));
  std::printf("faults: %llu daemons killed, %llu stopped in order, %llu nodes without power, %llu partitions, %llu outages of "
              "the registry\n",
              n(sum.crashes), n(sum.stops), n(sum.power_cuts), n(sum.partitions), n(sum.registry_outages));
  std::printf("in doubt: %llu, the longest %.1f s; committed by the target alone, the source dead: %llu; containers "
              "lost with a node: %llu, given up: %llu; copies fenced: %llu\n",
              n(sum.doubts), static_cast<double>(sum.doubt_longest) / static_cast<double>(kSecond),
              n(sum.saved_alone), n(sum.lost), n(sum.given_up), n(sum.fenced));
  std::printf("%llu events, %.1f registry requests and %.1f swaps per migration, longest plan %.1f ms; %.1f s\n",
              n(sum.events), static_cast<double>(sum.registry_requests) / static_cast<double>(std::max<std::uint64_t>(1, sum.begun)),
              static_cast<double>(sum.registry_swaps) / static_cast<double>(std::max<std::uint64_t>(1, sum.begun)),
              sum.plan_ms_longest, seconds);
  std::printf("%llu passed, %u failed, 0 skipped\n", n(std::min<std::uint64_t>(next, runs) - failures), failures.load());
  return failures > 0 ? 1 : 0;
}
