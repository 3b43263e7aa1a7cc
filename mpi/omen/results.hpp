// results.hpp - the phases of a run, what they gave, and whether physics agrees with it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "input.hpp"

namespace lifeboat::omen {

// One sweep over all energies.
struct Phase {
  bool perfect = false;  // the wire without disorder and bias, to be compared with its bands
  double bias = 0;       // V
  int momentum = 0;      // index
};

// The perfect wire at each momentum, then each bias at each momentum: numbered by their order.
std::vector<Phase> phases_of(const Input& input);
Device device_of(const Input& input, const Phase& phase);
std::string describe(const Input& input, const Phase& phase);

// Of one phase, by the index of the energy.
struct PhaseResult {
  std::vector<double> transmission;
  std::vector<double> uneven;   // Transmission::uneven
  std::vector<double> reverse;  // from the other end; 0 where that was not asked for
};

// Whether this energy is also solved from the other end.
inline bool is_checked(const Input& input, int energy) { return energy % input.check_every == 0; }

struct Check {
  std::string what;
  double worst = 0;    // deviation
  double allowed = 0;
  int points = 0;      // how many energies it looked at; 0: nothing to look at
  int left_out = 0;    // too near to the edge of a band for the number of modes to be sure

  [[nodiscard]] bool passed() const { return points > 0 && worst <= allowed; }
};

// `results`: of all phases, in their order.
std::vector<Check> check(const Input& input, const std::vector<PhaseResult>& results);

// Amperes at each bias; of a film per period of its height, averaged over the momenta.
std::vector<double> currents(const Input& input, const std::vector<PhaseResult>& results);

// FNV-1a over the bits of all transmissions: equal only if all of them are.
std::uint64_t digest(const std::vector<PhaseResult>& results);

// DIR/transmission.csv and DIR/current.csv, every digit of every number.
Status write_files(const std::string& directory, const Input& input,
                   const std::vector<PhaseResult>& results);

}  // namespace lifeboat::omen
