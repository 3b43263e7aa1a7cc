// wire.hpp - the nanowire: its tight-binding Hamiltonian, slab by slab, and its bands in closed form.
//
// A rectangular cross-section of a simple cubic lattice, stacked along x. Along y the wire has hard
// walls; along z it has too, or it repeats itself (a film, with a Bloch phase). Energies are in eV.
//
//   single-band  E = 2t (3 - cos kx - cos ky - cos kz), t = hopping: the effective mass, discretised
//   two-band     the same for the conduction band above gap/2 and, mirrored, with valence_hopping, for
//                the valence band below -gap/2; the two orbitals of one slab and the next are coupled:
//                i * coupling * sin kx in the Hamiltonian of kx (a two-band k.p model on the lattice)
//
// The transverse modes separate, so the bands are known exactly, whatever the cross-section.
#pragma once

#include <cstdint>
#include <vector>

#include "matrix.hpp"

namespace lifeboat::omen {

enum class Bands { kSingle, kTwo };

struct Model {
  Bands bands = Bands::kSingle;
  int width = 1;   // sites along y
  int height = 1;  // sites along z
  int length = 1;  // slabs along x, without the leads
  bool film = false;
  double hopping = 1;
  double valence_hopping = 1;  // this and the next two: kTwo only
  double gap = 1;
  double coupling = 0;
  double disorder = 0;  // on-site energies vary by +- half of it (Anderson), both orbitals alike
  std::uint64_t seed = 0;

  [[nodiscard]] int orbitals() const { return bands == Bands::kTwo ? 2 : 1; }
  [[nodiscard]] int slab_size() const { return width * height * orbitals(); }
};

// A wire between two leads, which are the same wire going on for ever, at a potential each.
struct Device {
  Matrix slab;       // Hamiltonian of a slab, without shifts
  Matrix coupling;   // of one orbital to those of the same site in the next slab; its size: orbitals
  std::vector<std::vector<double>> shifts;  // of each slab: the energy added to each of its orbitals
  double left = 0;   // the potential of the left lead, and of the right one
  double right = 0;
};

// The wire of a model: the potential falls evenly from 0 in the left lead to -bias in the right one,
// to which the bias (in V) is applied. `phase`: of Bloch's theorem across the height, of a film.
Device make_device(const Model& model, double bias, double phase);
// Without disorder and bias.
Device make_perfect(const Model& model, double phase);
// What is seen from the other end.
Device mirrored(Device device);

// How many modes of a lead at potential 0 carry an electron of this energy to the right: the roots
// cos kx in (-1, 1) of det(H(kx) - energy) = 0, of all transverse modes.
int open_modes(const Model& model, double energy, double phase);

// The shift of one site by disorder: uniform, in the order of nothing but its place.
double disorder_of(const Model& model, int slab, int site);

}  // namespace lifeboat::omen
