#include "wire.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lifeboat::omen {

namespace {

// On-site energies and hoppings (all directions) of the orbitals.
struct Orbital {
  double energy;
  double hopping;
};

std::vector<Orbital> orbitals_of(const Model& model) {
  if (model.bands == Bands::kSingle) return {{6 * model.hopping, -model.hopping}};
  return {{model.gap / 2 + 6 * model.hopping, -model.hopping},
          {-model.gap / 2 - 6 * model.valence_hopping, model.valence_hopping}};
}

// Adds the hopping from one site to another, and back.
void connect(Matrix& slab, const std::vector<Orbital>& orbitals, int from, int to, Complex phase) {
  const int count = static_cast<int>(orbitals.size());
  for (int o = 0; o < count; ++o) {
    const Complex value = orbitals[static_cast<std::size_t>(o)].hopping * phase;
    slab(from * count + o, to * count + o) += value;
    slab(to * count + o, from * count + o) += std::conj(value);
  }
}

Matrix make_slab(const Model& model, double phase) {
  const std::vector<Orbital> orbitals = orbitals_of(model);
  const int count = model.orbitals();
  Matrix slab(model.slab_size());
  const auto site = [&](int y, int z) { return z * model.width + y; };
  for (int z = 0; z < model.height; ++z) {
    for (int y = 0; y < model.width; ++y) {
      for (int o = 0; o < count; ++o) {
        const int at = site(y, z) * count + o;
        slab(at, at) += orbitals[static_cast<std::size_t>(o)].energy;
      }
      if (y + 1 < model.width) connect(slab, orbitals, site(y, z), site(y + 1, z), 1);
      if (z + 1 < model.height) connect(slab, orbitals, site(y, z), site(y, z + 1), 1);
    }
  }
  if (model.film) {
    for (int y = 0; y < model.width; ++y) {
      connect(slab, orbitals, site(y, model.height - 1), site(y, 0), std::polar(1.0, phase));
    }
  }
  return slab;
}

// From this slab's orbitals (rows) to the next one's (columns).
Matrix make_coupling(const Model& model) {
  Matrix out(model.orbitals());
  const std::vector<Orbital> orbitals = orbitals_of(model);
  for (int o = 0; o < model.orbitals(); ++o) out(o, o) = orbitals[static_cast<std::size_t>(o)].hopping;
  if (model.bands == Bands::kTwo) {
    out(0, 1) = model.coupling / 2;
    out(1, 0) = -model.coupling / 2;
  }
  return out;
}

// The finaliser of splitmix64 (Steele, Lea, Flood 2014).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Roots in (-1, 1) of a x^2 + b x + c; a double one counts twice.
int roots_inside(double a, double b, double c) {
  const auto inside = [](double x) { return x > -1 && x < 1 ? 1 : 0; };
  if (a == 0) return b == 0 ? 0 : inside(-c / b);
  const double discriminant = b * b - 4 * a * c;
  if (discriminant < 0) return 0;
  // Without cancellation: the larger root, and the other one from their product.
  const double q = -(b + std::copysign(std::sqrt(discriminant), b)) / 2;
  return inside(q / a) + (q == 0 ? inside(0) : inside(c / q));
}

// For one transverse mode: `cosines` is cos ky + cos kz.
int open_of_mode(const Model& model, double energy, double cosines) {
  const std::vector<Orbital> o = orbitals_of(model);
  const auto offset = [&](const Orbital& orbital) {
    return orbital.energy + 2 * orbital.hopping * cosines - energy;
  };
  // A band orbital.energy + 2 hopping (cos kx + cosines); offset is what is left of it without kx.
  const double first = offset(o[0]);
  if (model.bands == Bands::kSingle) return roots_inside(0, 2 * o[0].hopping, first);
  const double second = offset(o[1]), square = model.coupling * model.coupling;
  // (first + 2 h0 c)(second + 2 h1 c) = square (1 - c^2)
  return roots_inside(4 * o[0].hopping * o[1].hopping + square,
                      2 * (first * o[1].hopping + second * o[0].hopping), first * second - square);
}

}  // namespace

double disorder_of(const Model& model, int slab, int site) {
  const std::uint64_t place = mix(model.seed) ^ mix(static_cast<std::uint64_t>(slab) << 32 |
                                                   static_cast<std::uint64_t>(site));
  const double unit = static_cast<double>(mix(place) >> 11) * 0x1p-53;
  return model.disorder * (unit - 0.5);
}

Device make_device(const Model& model, double bias, double phase) {
  Device out{make_slab(model, phase), make_coupling(model), {}, 0, -bias};
  for (int i = 0; i < model.length; ++i) {
    std::vector<double>& shifts = out.shifts.emplace_back();
    const double potential = -bias * (i + 1) / (model.length + 1);
    for (int site = 0; site < model.width * model.height; ++site) {
      shifts.insert(shifts.end(), static_cast<std::size_t>(model.orbitals()),
                    potential + disorder_of(model, i, site));
    }
  }
  return out;
}

Device make_perfect(const Model& model, double phase) {
  Model perfect = model;
  perfect.disorder = 0;
  return make_device(perfect, 0, phase);
}

Device mirrored(Device device) {
  std::reverse(device.shifts.begin(), device.shifts.end());
  std::swap(device.left, device.right);
  device.coupling = adjoint(device.coupling);
  return device;
}

int open_modes(const Model& model, double energy, double phase) {
  constexpr double kPi = std::numbers::pi;
  int open = 0;
  for (int n = 0; n < model.height; ++n) {
    const double kz = model.film ? (phase + 2 * kPi * n) / model.height
                                 : kPi * (n + 1) / (model.height + 1);
    for (int m = 0; m < model.width; ++m) {
      const double ky = kPi * (m + 1) / (model.width + 1);
      open += open_of_mode(model, energy, std::cos(ky) + std::cos(kz));
    }
  }
  return open;
}

}  // namespace lifeboat::omen
