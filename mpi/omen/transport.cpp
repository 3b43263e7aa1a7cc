#include "transport.hpp"

#include <algorithm>
#include <cmath>

namespace lifeboat::omen {

namespace {

constexpr int kStepsMax = 200;     // of the decimation; each doubles how far into the lead it sees
constexpr double kGone = 1e-30;    // relative: what is left of the coupling then is nothing
constexpr double kAgrees = 1e-6;   // relative: a self-energy that is wrong by less is right
constexpr int kBroaderMax = 5;     // how often a lead on a resonance is made ten times broader

// (1 x coupling) a: the coupling is the same for each site.
Matrix coupled(const Matrix& coupling, const Matrix& a) {
  const int orbitals = coupling.size();
  Matrix out(a.size());
  for (int column = 0; column < a.size(); ++column) {
    for (int row = 0; row < a.size(); ++row) {
      const int site = row / orbitals * orbitals;
      for (int o = 0; o < orbitals; ++o) {
        out(row, column) += coupling(row - site, o) * a(site + o, column);
      }
    }
  }
  return out;
}

// (1 x coupling) a (1 x coupling)+
Matrix coupled_both(const Matrix& coupling, const Matrix& a) {
  return adjoint(coupled(coupling, adjoint(coupled(coupling, a))));
}

Matrix all_sites(const Matrix& coupling, int size) {
  Matrix one(size);
  for (int i = 0; i < size; ++i) one(i, i) = 1;
  return coupled(coupling, one);
}

// energy - h
Matrix resolvent(Complex energy, const Matrix& h) {
  Matrix out = h;
  for (Complex& value : out.values()) value = -value;
  for (int i = 0; i < h.size(); ++i) out(i, i) += energy;
  return out;
}

void add(Matrix& to, const Matrix& what, double factor) {
  for (std::size_t i = 0; i < to.values().size(); ++i) to.values()[i] += factor * what.values()[i];
}

// i (sigma - sigma+)
Matrix broadening_of(const Matrix& sigma) {
  Matrix out(sigma.size());
  for (int c = 0; c < sigma.size(); ++c) {
    for (int r = 0; r < sigma.size(); ++r) {
      out(r, c) = Complex(0, 1) * (sigma(r, c) - std::conj(sigma(c, r)));
    }
  }
  return out;
}

Matrix shifted(const Matrix& slab, double by) {
  Matrix out = slab;
  for (int i = 0; i < slab.size(); ++i) out(i, i) += by;
  return out;
}

tl::unexpected<Error> singular(double energy) {
  return fail(Errc::kInvalid, "singular matrix at " + std::to_string(energy) +
                                  " eV; move the energy grid or raise `broadening`");
}

// (energy - h - inner)^-1 between the coupling: the lead seen through one slab more.
Result<Matrix> through(const Matrix& slab, const Matrix& coupling, Complex energy, const Matrix* inner) {
  Matrix green = resolvent(energy, slab);
  if (inner != nullptr) add(green, *inner, -1);
  if (!invert(green)) return singular(energy.real());
  return coupled_both(coupling, green);
}

// By decimation: each step takes every second slab out, so the coupling left is of slabs twice as far
// from each other.
Result<Matrix> decimated(const Matrix& slab, const Matrix& coupling, Complex energy) {
  Matrix surface = slab, bulk = slab;
  Matrix inwards = all_sites(coupling, slab.size()), outwards = adjoint(inwards);
  const double enough = kGone * largest(inwards);
  for (int step = 0; largest(inwards) > enough || largest(outwards) > enough; ++step) {
    if (step == kStepsMax) {
      return fail(Errc::kInvalid, "the lead does not converge at " + std::to_string(energy.real()) +
                                      " eV; raise `broadening`");
    }
    Matrix green = resolvent(energy, bulk);
    if (!invert(green)) return singular(energy.real());
    const Matrix in = inwards * green, out = outwards * green;
    const Matrix there_and_back = in * outwards;
    add(surface, there_and_back, 1);
    add(bulk, there_and_back, 1);
    add(bulk, out * inwards, 1);
    inwards = in * inwards;
    outwards = out * outwards;
  }
  return through(surface, coupling, energy, nullptr);
}

double distance(const Matrix& a, const Matrix& b) {
  Matrix difference = a;
  add(difference, b, -1);
  return largest(difference);
}

}  // namespace

// Where the energy is that of a few slabs cut out of the lead, decimation loses its digits: the result
// does not agree with itself seen through one slab more. A broader lead has them.
Result<Matrix> self_energy(const Matrix& slab, const Matrix& coupling, double energy,
                           double broadening) {
  for (int step = 0; step <= kBroaderMax; ++step, broadening *= 10) {
    const Complex complex_energy(energy, broadening);
    TRY(Matrix out, decimated(slab, coupling, complex_energy));
    TRY(const Matrix again, through(slab, coupling, complex_energy, &out));
    if (distance(out, again) <= kAgrees * largest(coupling)) return out;
  }
  return fail(Errc::kInvalid, "the lead has a resonance at " + std::to_string(energy) +
                                  " eV; move the energy grid or raise `broadening`");
}

Solver::Solver(const Model& model)
    : green_(static_cast<std::size_t>(model.length), Matrix(model.slab_size())) {}

double Solver::bytes(const Model& model) {
  constexpr int kScratch = 10;  // matrices that the decimation has at once
  return sizeof(Complex) * std::pow(model.slab_size(), 2) * (model.length + kScratch);
}

Result<Transmission> Solver::solve(const Device& device, double energy, double broadening) {
  TRY(const Matrix right, self_energy(shifted(device.slab, device.right), device.coupling, energy,
                                      broadening));
  TRY(const Matrix left, self_energy(shifted(device.slab, device.left), adjoint(device.coupling),
                                     energy, broadening));
  CHECK_OK(sweep_back(device, energy, left, right));
  return sweep_on(device, broadening_of(left), broadening_of(right));
}

// From the right lead to the left one: each slab's Green's function with all that is to its right.
Status Solver::sweep_back(const Device& device, double energy, const Matrix& left,
                          const Matrix& right) {
  const int last = static_cast<int>(green_.size()) - 1;
  for (int i = last; i >= 0; --i) {
    Matrix& green = green_[static_cast<std::size_t>(i)];
    const Matrix from_right =
        i == last ? right : coupled_both(device.coupling, green_[static_cast<std::size_t>(i) + 1]);
    green = resolvent(energy, device.slab);
    const std::vector<double>& shifts = device.shifts[static_cast<std::size_t>(i)];
    for (int k = 0; k < green.size(); ++k) green(k, k) -= shifts[static_cast<std::size_t>(k)];
    add(green, from_right, -1);
    if (i == 0) add(green, left, -1);
    if (!invert(green)) return singular(energy);
  }
  return {};
}

// From the left lead to the right one: the column of the device's Green's function that belongs to
// the first slab, and with it what flows from each slab to the next.
Transmission Solver::sweep_on(const Device& device, const Matrix& left, const Matrix& right) const {
  const Matrix back = adjoint(device.coupling);
  std::vector<double> currents;
  Matrix column = green_[0], injected = column * left;
  for (std::size_t i = 1; i < green_.size(); ++i) {
    Matrix next = green_[i] * coupled(back, column);
    injected = next * left;
    currents.push_back(-2 * trace_with_adjoint(coupled(device.coupling, injected), column).imag());
    column = std::move(next);
  }
  Transmission out;
  out.value = trace_with_adjoint(right * injected, column).real();
  for (double current : currents) out.uneven = std::max(out.uneven, std::abs(current - out.value));
  return out;
}

}  // namespace lifeboat::omen
