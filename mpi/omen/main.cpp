// omen - ballistic current through a nanowire: few messages, long phases.
//
//   omen INPUT [DIRECTORY]     DIRECTORY gets transmission.csv and current.csv
//
// Phases (a bias at a momentum) follow each other, `phases_at_once` of them at a time, each by its own
// ranks; the energies of a phase go round its ranks. Each energy is computed by one rank alone, and what
// the ranks have is put together by its index: the result has the same bits on any number of ranks.
// Exit status: 0; 1 if a check failed or could not be made; 2 for a wrong input or call.
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "results.hpp"
#include "transport.hpp"

namespace lifeboat::omen {
namespace {

using Clock = std::chrono::steady_clock;

struct World {
  int rank = 0;
  int size = 1;
};

// Ends the job, on every rank.
[[noreturn]] void give_up(const std::string& message, int status) {
  std::fprintf(stderr, "omen: %s\n", message.c_str());
  MPI_Abort(MPI_COMM_WORLD, status);
  std::abort();  // MPI_Abort does not return
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string timestamp() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t whole = std::chrono::system_clock::to_time_t(now);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()) % 1000;
  char day[32], text[48];
  std::tm utc{};
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", gmtime_r(&whole, &utc));
  std::snprintf(text, sizeof text, "%s.%03dZ", day, static_cast<int>(ms.count()));
  return text;
}

// Of one rank in one round: the energy that took longest.
struct Slowest {
  double seconds = 0;
  double energy = 0;
};

class Run {
 public:
  Run(const Input& input, World world)
      : input_(input), world_(world), phases_(phases_of(input)), solver_(input.model),
        groups_(std::min({input.phases_at_once, world.size, static_cast<int>(phases_.size())})) {}

  // On every rank; only rank 0 has the results.
  std::vector<PhaseResult> all() {
    std::vector<PhaseResult> out;
    for (std::size_t first = 0; first < phases_.size(); first += static_cast<std::size_t>(groups_)) {
      round(first, out);
    }
    return out;
  }

  [[nodiscard]] int groups() const { return groups_; }

 private:
  // One phase in each group of ranks.
  void round(std::size_t first, std::vector<PhaseResult>& out) {
    const auto start = Clock::now();
    const auto points = static_cast<std::size_t>(input_.energies);
    const std::size_t count = std::min(static_cast<std::size_t>(groups_), phases_.size() - first);
    const auto group = static_cast<std::size_t>(world_.rank % groups_);
    // Each number is computed by one rank and 0 in all others: adding them up is exact.
    std::vector<double> values(3 * points * count);
    Slowest slowest;
    if (group < count) {
      slowest = sweep(phases_[first + group], values.data() + 3 * points * group);
    }
    reduce(values);
    const std::vector<Slowest> all = gather(slowest);
    if (world_.rank != 0) return;
    for (std::size_t i = 0; i < count; ++i) {
      const double* at = values.data() + 3 * points * i;
      out.push_back({{at, at + points}, {at + points, at + 2 * points}, {at + 2 * points, at + 3 * points}});
    }
    tell(first, count, seconds_since(start), all);
  }

  // This rank's energies of a phase: transmissions, then unevennesses, then the reverse ones.
  Slowest sweep(const Phase& phase, double* values) {
    Slowest slowest;
    const Device device = device_of(input_, phase), reverse = mirrored(device);
    const std::vector<double> energies = input_.energy_grid();
    const int ranks = (world_.size - world_.rank % groups_ + groups_ - 1) / groups_;
    for (int i = world_.rank / groups_; i < input_.energies; i += ranks) {
      const auto start = Clock::now();
      const double energy = energies[static_cast<std::size_t>(i)];
      const Transmission there = solve(device, energy);
      values[i] = there.value;
      values[input_.energies + i] = there.uneven;
      if (is_checked(input_, i)) values[2 * input_.energies + i] = solve(reverse, energy).value;
      const double took = seconds_since(start);
      if (took > slowest.seconds) slowest = {took, energy};
    }
    return slowest;
  }

  Transmission solve(const Device& device, double energy) {
    const auto out = solver_.solve(device, energy, input_.broadening);
    if (!out) give_up(out.error().message, 1);
    return *out;
  }

  void reduce(std::vector<double>& values) const {
    const void* from = world_.rank == 0 ? MPI_IN_PLACE : values.data();
    MPI_Reduce(from, values.data(), static_cast<int>(values.size()), MPI_DOUBLE, MPI_SUM, 0,
               MPI_COMM_WORLD);
  }

  [[nodiscard]] std::vector<Slowest> gather(const Slowest& mine) const {
    std::vector<Slowest> all(static_cast<std::size_t>(world_.size));
    MPI_Gather(&mine, 2, MPI_DOUBLE, all.data(), 2, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    return all;
  }

  void tell(std::size_t first, std::size_t count, double seconds, const std::vector<Slowest>& all) const {
    const auto slower = [](const Slowest& a, const Slowest& b) { return a.seconds < b.seconds; };
    const auto worst = std::max_element(all.begin(), all.end(), slower);
    for (std::size_t i = first; i < first + count; ++i) {
      std::printf("%s phase %zu of %zu completed: %s: %d energies in %.3f s; slowest %.3f s at %.4f eV "
                  "on rank %d\n",
                  timestamp().c_str(), i + 1, phases_.size(), describe(input_, phases_[i]).c_str(),
                  input_.energies, seconds, worst->seconds, worst->energy,
                  static_cast<int>(worst - all.begin()));
    }
    std::fflush(stdout);
  }

  const Input& input_;
  World world_;
  std::vector<Phase> phases_;
  Solver solver_;
  int groups_;
};

// Every rank hears of every other one, so that what MPI opens for that is open before the first phase.
void connect_all(const World& world) {
  const auto count = static_cast<std::size_t>(world.size);
  const std::vector<int> out(count);
  std::vector<int> in(count);
  MPI_Alltoall(out.data(), 1, MPI_INT, in.data(), 1, MPI_INT, MPI_COMM_WORLD);
}

void tell_start(const Input& input, const World& world, int groups) {
  const Model& m = input.model;
  std::printf("%s omen: %s %s, %d x %d sites, %d slabs of %d orbitals; %d energies, %d momenta, "
              "%zu biases\n",
              timestamp().c_str(), m.bands == Bands::kTwo ? "two-band" : "single-band",
              m.film ? "film" : "wire", m.width, m.height, m.length, m.slab_size(), input.energies,
              input.momenta, input.biases.size());
  std::printf("%s omen: %d ranks, %d phases at once, %.0f MB on each rank\n", timestamp().c_str(),
              world.size, groups, Solver::bytes(m) / 1e6);
  std::fflush(stdout);
}

// Whether all is well.
bool tell_end(const Input& input, const std::vector<PhaseResult>& results, double seconds) {
  const std::vector<double> amperes = currents(input, results);
  std::printf("\nbias_V current_A\n");
  for (std::size_t i = 0; i < amperes.size(); ++i) std::printf("%g %.17g\n", input.biases[i], amperes[i]);
  std::printf("\n");
  int passed = 0, failed = 0, skipped = 0;
  for (const Check& c : check(input, results)) {
    const char* verdict = c.points == 0 ? "SKIPPED" : c.passed() ? "PASSED" : "FAILED";
    ++(c.points == 0 ? skipped : c.passed() ? passed : failed);
    std::printf("%s: off by %.1e at most (allowed %.0e) at %d energies, %d left out ... %s\n",
                c.what.c_str(), c.worst, c.allowed, c.points, c.left_out, verdict);
  }
  std::printf("\n%zu phases completed in %.3f s\n", phases_of(input).size(), seconds);
  std::printf("%d checks passed, %d failed, %d skipped\n", passed, failed, skipped);
  std::printf("digest of the transmissions: %016llx\n",
              static_cast<unsigned long long>(digest(results)));
  std::fflush(stdout);
  return failed == 0 && skipped == 0;
}

int run(int argc, char** argv, World world) {
  if (argc < 2 || argc > 3) give_up("usage: omen INPUT [DIRECTORY]", 2);
  const auto input = load_input(argv[1]);
  if (!input) give_up(input.error().message, 2);
  connect_all(world);
  const auto start = Clock::now();
  Run work(*input, world);
  if (world.rank == 0) tell_start(*input, world, work.groups());
  const std::vector<PhaseResult> results = work.all();
  int status = 0;
  if (world.rank == 0) {
    if (!tell_end(*input, results, seconds_since(start))) status = 1;
    if (argc == 3) {
      if (auto written = write_files(argv[2], *input, results); !written) {
        give_up(written.error().message, 1);
      }
    }
  }
  MPI_Bcast(&status, 1, MPI_INT, 0, MPI_COMM_WORLD);
  return status;
}

}  // namespace
}  // namespace lifeboat::omen

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  lifeboat::omen::World world;
  MPI_Comm_rank(MPI_COMM_WORLD, &world.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world.size);
  const int status = lifeboat::omen::run(argc, argv, world);
  MPI_Finalize();
  return status;
}
