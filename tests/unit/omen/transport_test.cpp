#include "mpi/omen/transport.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "mpi/omen/landauer.hpp"

namespace lifeboat::omen {
namespace {

constexpr double kBroadening = 1e-9;

Model wire(int width, int height, int length) {
  Model model;
  model.width = width;
  model.height = height;
  model.length = length;
  return model;
}

Model two_band(int width, int height, int length) {
  Model model = wire(width, height, length);
  model.bands = Bands::kTwo;
  model.hopping = 1.0;
  model.valence_hopping = 0.6;
  model.gap = 0.8;
  model.coupling = 0.9;
  return model;
}

Transmission solve(const Model& model, const Device& device, double energy) {
  auto out = Solver(model).solve(device, energy, kBroadening);
  EXPECT_TRUE(out) << (out ? "" : out.error().message);
  return out ? *out : Transmission{};
}

TEST(Omen, Inverse) {
  Matrix a(3);
  for (int c = 0; c < 3; ++c) {
    for (int r = 0; r < 3; ++r) a(r, c) = Complex(r == c ? 2 : 0.3 * (r + 1), 0.5 * (c - r));
  }
  Matrix inverse = a;
  ASSERT_TRUE(invert(inverse));
  const Matrix product = a * inverse;
  for (int c = 0; c < 3; ++c) {
    for (int r = 0; r < 3; ++r) EXPECT_NEAR(std::abs(product(r, c) - Complex(r == c ? 1 : 0)), 0, 1e-14);
  }
  Matrix singular(2);
  EXPECT_FALSE(invert(singular));
}

TEST(Omen, ProductsAndTraces) {
  Matrix a(2), b(2), out(2);
  a(0, 0) = {1, 2};
  a(0, 1) = {0, 3};
  a(1, 0) = {-1, 1};
  b(0, 0) = {2, 0};
  b(1, 0) = {1, -1};
  b(1, 1) = {0, 5};
  multiply(1, a, Op::kAsIs, b, Op::kAdjoint, 0, out);
  EXPECT_EQ(out(0, 0), Complex(2, 4));
  EXPECT_EQ(out(0, 1), Complex(1, 2) * Complex(1, 1) + Complex(0, 3) * Complex(0, -5));
  EXPECT_EQ(trace_with_adjoint(a, b), out(0, 0) + out(1, 1));
}

// A half chain's surface Green's function is known: (z - sqrt(z^2 - 4t^2)) / 2t^2, decaying branch.
TEST(Omen, LeadOfChain) {
  Matrix slab(1), coupling(1);
  coupling(0, 0) = -1;
  for (double energy : {-3.0, -1.2, 0.1, 1.9, 2.5}) {
    auto sigma = self_energy(slab, coupling, energy, kBroadening);
    ASSERT_TRUE(sigma);
    const Complex z(energy, kBroadening);
    Complex root = std::sqrt(z * z - 4.0);
    if (((z - root) / 2.0).imag() > 0) root = -root;
    if (std::abs((z - root) / 2.0) > 1.0001) root = -root;
    EXPECT_NEAR(std::abs((*sigma)(0, 0) - (z - root) / 2.0), 0, 1e-6) << energy;
  }
}

// One site of a chain raised by U: T = 1 / (1 + U^2 / (4 t^2 sin^2 k)).
TEST(Omen, Impurity) {
  const Model model = wire(1, 1, 5);
  Device device = make_perfect(model, 0);
  constexpr double kU = 0.7;
  device.shifts[2][0] += kU;
  for (double energy : {4.4, 5.0, 6.0, 7.7}) {  // the band of a 1 x 1 wire: 4 to 8 t
    const double cosine = (6 - energy) / 2;
    const double expected = 1 / (1 + kU * kU / (4 * (1 - cosine * cosine)));
    // At 6 t a single slab has its level: the lead is made broader.
    EXPECT_NEAR(solve(model, device, energy).value, expected, energy == 6 ? 1e-5 : 1e-7) << energy;
  }
}

TEST(Omen, ModesOfSmallWires) {
  // cos(pi/2) = 0: the only transverse mode of a 1 x 1 wire is at 6t.
  EXPECT_EQ(open_modes(wire(1, 1, 1), 3.99, 0), 0);
  EXPECT_EQ(open_modes(wire(1, 1, 1), 4.01, 0), 1);
  EXPECT_EQ(open_modes(wire(1, 1, 1), 8.01, 0), 0);
  // 2 x 1: at 6t -+ t.
  EXPECT_EQ(open_modes(wire(2, 1, 1), 3.5, 0), 1);
  EXPECT_EQ(open_modes(wire(2, 1, 1), 6.0, 0), 2);
  EXPECT_EQ(open_modes(wire(2, 1, 1), 8.5, 0), 1);
  Model film = wire(1, 2, 1);
  film.film = true;
  // kz = 0 and pi: at 6t -+ 2t.
  EXPECT_EQ(open_modes(film, 3, 0), 1);
  EXPECT_EQ(open_modes(film, 9, 0), 1);
  EXPECT_EQ(open_modes(film, 6.001, 0), 1);
}

// The two bands at a given kx, from the 2 x 2 matrix: counting where they cross the energy upwards.
int counted_crossings(const Model& model, double energy) {
  constexpr int kSteps = 40000;
  const double pi = std::numbers::pi;
  int out = 0;
  for (int m = 1; m <= model.width; ++m) {
    for (int n = 1; n <= model.height; ++n) {
      const double cosines = std::cos(pi * m / (model.width + 1)) + std::cos(pi * n / (model.height + 1));
      for (int sign : {-1, 1}) {
        const auto band = [&](int step) {
          const double k = -pi + 2 * pi * step / kSteps;
          const double c = model.gap / 2 + model.hopping * (6 - 2 * (std::cos(k) + cosines));
          const double v = -model.gap / 2 - model.valence_hopping * (6 - 2 * (std::cos(k) + cosines));
          const double off = model.coupling * std::sin(k);
          return (c + v) / 2 + sign * std::sqrt((c - v) * (c - v) / 4 + off * off);
        };
        for (int step = 0; step < kSteps; ++step) {
          if (band(step) < energy && band(step + 1) >= energy) ++out;
        }
      }
    }
  }
  return out;
}

TEST(Omen, TwoBandModesAsCounted) {
  Model model = two_band(2, 3, 1);
  for (double coupling : {0.0, 0.9, 2.5}) {  // at 2.5 the bands have a camel's back
    model.coupling = coupling;
    for (double energy : {-7.3, -3.1, -1.9, -0.2, 0.3, 1.7, 2.9, 4.4, 8.1}) {
      EXPECT_EQ(open_modes(model, energy, 0), counted_crossings(model, energy))
          << energy << " eV, coupling " << coupling;
    }
  }
}

void expect_integers(const Model& model, double from, double to, double phase) {
  const Device device = make_perfect(model, phase);
  int open = 0;
  for (int i = 0; i <= 24; ++i) {
    const double energy = from + (to - from) * i / 24;
    const int modes = open_modes(model, energy, phase);
    EXPECT_NEAR(solve(model, device, energy).value, modes, 1e-6) << energy;
    open += modes;
  }
  EXPECT_GT(open, 0);
}

TEST(Omen, PerfectWireHasIntegerTransmission) { expect_integers(wire(3, 4, 6), 0.613, 11.517, 0); }

TEST(Omen, PerfectFilmHasIntegerTransmission) {
  Model film = wire(3, 2, 5);
  film.film = true;
  expect_integers(film, 0.613, 11.517, 0.8);
  Model thin = wire(3, 1, 5);
  thin.film = true;
  expect_integers(thin, 0.613, 11.517, -1.7);
}

TEST(Omen, PerfectTwoBandWireHasIntegerTransmission) {
  expect_integers(two_band(3, 2, 5), -6.117, 9.213, 0);
}

class Disordered : public testing::TestWithParam<Bands> {};

TEST_P(Disordered, CurrentIsConservedAndReciprocalAndBounded) {
  Model model = GetParam() == Bands::kTwo ? two_band(3, 2, 12) : wire(3, 3, 12);
  model.disorder = 1.2;
  model.seed = 7;
  constexpr double kBias = 0.3;
  const Device device = make_device(model, kBias, 0);
  double most = 0;
  for (double energy : {2.3, 2.7, 3.6, 4.9}) {
    const Transmission there = solve(model, device, energy);
    const Transmission back = solve(model, mirrored(device), energy);
    EXPECT_LT(there.uneven, 1e-10);
    EXPECT_NEAR(there.value, back.value, 1e-10) << energy;
    const int open = std::min(open_modes(model, energy, 0), open_modes(model, energy + kBias, 0));
    EXPECT_LE(there.value, open) << energy;
    EXPECT_GE(there.value, 0);
    most = std::max(most, there.value);
  }
  EXPECT_GT(most, 0.1);
}

INSTANTIATE_TEST_SUITE_P(Omen, Disordered, testing::Values(Bands::kSingle, Bands::kTwo));

// The whole matrix at once, without recursion.
TEST(Omen, AsByOneInversion) {
  Model model = two_band(2, 1, 4);
  model.disorder = 0.8;
  const Device device = make_device(model, 0.2, 0);
  const int n = model.slab_size(), all = n * model.length;
  constexpr double kEnergy = 4.0;
  Matrix right_slab = device.slab, left_slab = device.slab;
  for (int i = 0; i < n; ++i) right_slab(i, i) += device.right;
  auto right = self_energy(right_slab, device.coupling, kEnergy, kBroadening);
  auto left = self_energy(left_slab, adjoint(device.coupling), kEnergy, kBroadening);
  ASSERT_TRUE(right && left);
  Matrix green(all), gamma_left(all), gamma_right(all);
  for (int i = 0; i < model.length; ++i) {
    for (int c = 0; c < n; ++c) {
      for (int r = 0; r < n; ++r) green(i * n + r, i * n + c) -= device.slab(r, c);
      green(i * n + c, i * n + c) += kEnergy - device.shifts[static_cast<std::size_t>(i)]
                                                            [static_cast<std::size_t>(c)];
    }
  }
  const int orbitals = model.orbitals();
  for (int i = 0; i + 1 < model.length; ++i) {
    for (int k = 0; k < n; ++k) {
      for (int o = 0; o < orbitals; ++o) {
        const Complex value = device.coupling(k % orbitals, o);
        const int to = (i + 1) * n + k / orbitals * orbitals + o;
        green(i * n + k, to) -= value;
        green(to, i * n + k) -= std::conj(value);
      }
    }
  }
  for (int c = 0; c < n; ++c) {
    for (int r = 0; r < n; ++r) {
      const int last = (model.length - 1) * n;
      green(r, c) -= (*left)(r, c);
      green(last + r, last + c) -= (*right)(r, c);
      gamma_left(r, c) = Complex(0, 1) * ((*left)(r, c) - std::conj((*left)(c, r)));
      gamma_right(last + r, last + c) = Complex(0, 1) * ((*right)(r, c) - std::conj((*right)(c, r)));
    }
  }
  ASSERT_TRUE(invert(green));
  const double expected = trace_with_adjoint(gamma_right * green * gamma_left, green).real();
  EXPECT_GT(expected, 0.05);
  EXPECT_NEAR(solve(model, device, kEnergy).value, expected, 1e-10);
}

TEST(Omen, DisorderIsOfTheSeedAndEven) {
  Model model = wire(4, 4, 50);
  model.disorder = 2;
  model.seed = 3;
  double sum = 0, squares = 0;
  for (int slab = 0; slab < 50; ++slab) {
    for (int site = 0; site < 16; ++site) {
      const double value = disorder_of(model, slab, site);
      EXPECT_EQ(value, disorder_of(model, slab, site));
      EXPECT_LE(std::abs(value), 1);
      sum += value;
      squares += value * value;
    }
  }
  EXPECT_NEAR(sum / 800, 0, 0.08);
  EXPECT_NEAR(squares / 800, 1.0 / 3, 0.03);
  Model other = model;
  other.seed = 4;
  EXPECT_NE(disorder_of(model, 0, 0), disorder_of(other, 0, 0));
}

TEST(Landauer, OneOpenModeCarriesTheQuantum) {
  std::vector<double> energies, open;
  for (int i = 0; i <= 4000; ++i) {
    energies.push_back(-1 + i / 2000.0);
    open.push_back(1);
  }
  // Whatever the temperature: the integral of the difference of two Fermi functions is their distance.
  for (double temperature : {30.0, 300.0}) {
    EXPECT_NEAR(current(energies, open, 0.05, -0.05, temperature), 0.1 * kConductanceQuantum, 1e-12);
  }
  EXPECT_EQ(current(energies, open, 0, 0, 300), 0);
  EXPECT_LT(current(energies, open, -0.05, 0.05, 300), 0);
}

}  // namespace
}  // namespace lifeboat::omen
