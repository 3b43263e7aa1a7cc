// transport.hpp - ballistic transport through a device: Green's functions, recursively.
//
// Methods: surface Green's functions of the leads by decimation (Lopez Sancho, Lopez Sancho and
// Rubio, J. Phys. F 15, 851, 1985); the first block column of the device's Green's function by the
// recursive Green's function method (Thouless and Kirkpatrick 1981; Lake, Klimeck, Bowen and Jovanovic,
// J. Appl. Phys. 81, 7845, 1997); transmission by Caroli's formula, T = Tr(Gr G Gl G+).
#pragma once

#include <vector>

#include "base/result.hpp"
#include "wire.hpp"

namespace lifeboat::omen {

struct Transmission {
  double value = 0;   // from left to right: electrons per mode, summed over the modes
  double uneven = 0;  // the most by which the current from one slab to the next differs from it
};

// The self-energy of a lead on the slab it touches. `coupling`: from the lead's surface inwards.
// The imaginary part `broadening` (eV) makes the lead open. kInvalid if it does not converge.
Result<Matrix> self_energy(const Matrix& slab, const Matrix& coupling, double energy, double broadening);

// Solves one energy after the other. Holds length * slab_size^2 complex numbers all its life.
class Solver {
 public:
  explicit Solver(const Model& model);
  // kInvalid if a matrix is singular or a lead does not converge at this energy (eV).
  Result<Transmission> solve(const Device& device, double energy, double broadening);

  static double bytes(const Model& model);  // what one holds, and the scratch of its work

 private:
  Status sweep_back(const Device& device, double energy, const Matrix& left, const Matrix& right);
  Transmission sweep_on(const Device& device, const Matrix& left, const Matrix& right) const;

  std::vector<Matrix> green_;  // of the wire cut off at each slab's left side
};

}  // namespace lifeboat::omen
