// landauer.hpp - from transmission to current: Landauer's formula (Datta, Electronic Transport in
// Mesoscopic Systems, 1995, section 2.5), with two electrons per mode.
#pragma once

#include <vector>

namespace lifeboat::omen {

inline constexpr double kBoltzmann = 8.617333262e-5;           // eV/K
inline constexpr double kConductanceQuantum = 7.748091729e-5;  // 2 e^2/h in S

// Occupation of a state `energy` (eV) of a contact with this Fermi level (eV) at `temperature` (K,
// above 0).
double occupation(double energy, double fermi, double temperature);

// Amperes: 2e/h times the integral of transmission * (left - right occupation), by the trapezoidal
// rule, summed in the order of the energies (eV, evenly spaced).
double current(const std::vector<double>& energies, const std::vector<double>& transmission,
               double left_fermi, double right_fermi, double temperature);

}  // namespace lifeboat::omen
