#include "results.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <limits>

#include "base/file.hpp"
#include "landauer.hpp"
#include "transport.hpp"

namespace lifeboat::omen {

namespace {

constexpr double kModesAllowed = 1e-6;
constexpr double kBoundsAllowed = 1e-3;  // broadened leads let a little through where no mode is open
constexpr double kCurrentAllowed = 1e-8;
constexpr double kReciprocityAllowed = 1e-8;
constexpr double kEdge = 1e-3;  // eV: within it of a band's edge T climbs steeply

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

void note(Check& check, double deviation) {
  ++check.points;
  if (std::isnan(deviation)) deviation = std::numeric_limits<double>::infinity();
  check.worst = std::max(check.worst, deviation);
}

struct Modes {
  int count;
  bool sure;  // the same a little below and above
};

Modes modes_at(const Input& input, double energy, double phase) {
  const int here = open_modes(input.model, energy, phase);
  return {here, here == open_modes(input.model, energy - kEdge, phase) &&
                    here == open_modes(input.model, energy + kEdge, phase)};
}

void check_modes(const Input& input, const Phase& phase, const PhaseResult& result, Check& integers,
                 Check& bounds) {
  const std::vector<double> energies = input.energy_grid();
  const double bloch = input.phase_of(phase.momentum);
  for (std::size_t i = 0; i < energies.size(); ++i) {
    const Modes left = modes_at(input, energies[i], bloch);
    const Modes right = modes_at(input, energies[i] + phase.bias, bloch);
    Check& one = phase.perfect ? integers : bounds;
    if (!left.sure || !right.sure) {
      ++one.left_out;
    } else if (phase.perfect) {
      note(integers, std::abs(result.transmission[i] - left.count));
    } else {
      const double most = std::min(left.count, right.count);
      note(bounds, std::max(-result.transmission[i], result.transmission[i] - most));
    }
  }
}

}  // namespace

std::vector<Phase> phases_of(const Input& input) {
  std::vector<Phase> out;
  for (int momentum = 0; momentum < input.momenta; ++momentum) out.push_back({true, 0, momentum});
  for (double bias : input.biases) {
    for (int momentum = 0; momentum < input.momenta; ++momentum) out.push_back({false, bias, momentum});
  }
  return out;
}

Device device_of(const Input& input, const Phase& phase) {
  const double bloch = input.phase_of(phase.momentum);
  return phase.perfect ? make_perfect(input.model, bloch) : make_device(input.model, phase.bias, bloch);
}

std::string describe(const Input& input, const Phase& phase) {
  std::string out = phase.perfect ? "perfect wire" : format("bias %g V", phase.bias);
  if (input.momenta > 1) out += format(", momentum %d of %d", phase.momentum + 1, input.momenta);
  return out;
}

std::vector<Check> check(const Input& input, const std::vector<PhaseResult>& results) {
  Check integers{"perfect wire: transmission is the number of open modes", 0, kModesAllowed};
  Check conserved{"current conserved from slab to slab", 0, kCurrentAllowed};
  Check reciprocal{"reciprocity: the same from left to right as from right to left", 0,
                   kReciprocityAllowed};
  Check bounds{"transmission between 0 and the modes of the narrower lead", 0, kBoundsAllowed};
  const std::vector<Phase> phases = phases_of(input);
  for (std::size_t p = 0; p < phases.size(); ++p) {
    check_modes(input, phases[p], results[p], integers, bounds);
    for (int i = 0; i < input.energies; ++i) {
      const std::size_t at = static_cast<std::size_t>(i);
      note(conserved, results[p].uneven[at]);
      if (is_checked(input, i)) {
        note(reciprocal, std::abs(results[p].transmission[at] - results[p].reverse[at]));
      }
    }
  }
  return {integers, conserved, reciprocal, bounds};
}

std::vector<double> currents(const Input& input, const std::vector<PhaseResult>& results) {
  const std::vector<Phase> phases = phases_of(input);
  const std::vector<double> energies = input.energy_grid();
  std::vector<double> out;
  for (std::size_t p = 0; p < phases.size(); ++p) {
    if (phases[p].perfect) continue;
    if (phases[p].momentum == 0) out.push_back(0);
    out.back() += current(energies, results[p].transmission, input.fermi, input.fermi - phases[p].bias,
                          input.temperature) /
                  input.momenta;
  }
  return out;
}

std::uint64_t digest(const std::vector<PhaseResult>& results) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const PhaseResult& result : results) {
    for (double value : result.transmission) {
      const auto bits = std::bit_cast<std::uint64_t>(value);
      for (int shift = 0; shift < 64; shift += 8) hash = (hash ^ (bits >> shift & 0xff)) * 0x100000001b3;
    }
  }
  return hash;
}

Status write_files(const std::string& directory, const Input& input,
                   const std::vector<PhaseResult>& results) {
  const std::vector<Phase> phases = phases_of(input);
  const std::vector<double> energies = input.energy_grid();
  std::string table = "perfect,bias_V,momentum,energy_eV,transmission\n";
  for (std::size_t p = 0; p < phases.size(); ++p) {
    for (std::size_t i = 0; i < energies.size(); ++i) {
      table += format("%d,%.17g,%d,%.17g,%.17g\n", phases[p].perfect ? 1 : 0, phases[p].bias,
                      phases[p].momentum, energies[i], results[p].transmission[i]);
    }
  }
  CHECK_OK(replace_file(directory + "/transmission.csv", table));
  const std::vector<double> amperes = currents(input, results);
  table = "bias_V,current_A\n";
  for (std::size_t i = 0; i < amperes.size(); ++i) {
    table += format("%.17g,%.17g\n", input.biases[i], amperes[i]);
  }
  return replace_file(directory + "/current.csv", table);
}

}  // namespace lifeboat::omen
