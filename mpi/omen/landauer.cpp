#include "landauer.hpp"

#include <cmath>
#include <cstddef>

namespace lifeboat::omen {

double occupation(double energy, double fermi, double temperature) {
  return 1 / (1 + std::exp((energy - fermi) / (kBoltzmann * temperature)));
}

double current(const std::vector<double>& energies, const std::vector<double>& transmission,
               double left_fermi, double right_fermi, double temperature) {
  double sum = 0;
  const auto integrand = [&](std::size_t i) {
    return transmission[i] * (occupation(energies[i], left_fermi, temperature) -
                              occupation(energies[i], right_fermi, temperature));
  };
  for (std::size_t i = 1; i < energies.size(); ++i) {
    sum += (integrand(i - 1) + integrand(i)) / 2 * (energies[i] - energies[i - 1]);
  }
  return kConductanceQuantum * sum;
}

}  // namespace lifeboat::omen
