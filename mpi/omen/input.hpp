// input.hpp - what an OMEN run computes, as its YAML file says (configs/omen-input.yaml has every key).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "wire.hpp"

namespace lifeboat::omen {

struct Input {
  Model model;
  double energy_from = 0;  // eV, both ends included
  double energy_to = 1;
  int energies = 2;
  int momenta = 1;              // Bloch phases of a film, evenly over the zone
  std::vector<double> biases;   // V
  double fermi = 0;             // of the left contact, eV
  double temperature = 300;     // K
  double broadening = 1e-8;     // of the leads, eV
  int check_every = 1;          // each so many energies are also solved from the other end
  int phases_at_once = 1;       // by as many groups of ranks

  [[nodiscard]] std::vector<double> energy_grid() const;
  [[nodiscard]] double phase_of(int momentum) const;  // Bloch's, in the middle of its part of the zone
};

// kInvalid with every mistake, one a line, `file:line:col: path: message`; kSystem if the file cannot
// be read.
Result<Input> load_input(const std::string& path);
Result<Input> parse_input(std::string_view text, const std::string& name);

}  // namespace lifeboat::omen
