#include "mpi/omen/results.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "mpi/omen/transport.hpp"

namespace lifeboat::omen {
namespace {

constexpr const char* kSmall = R"(wire: {width: 2, height: 2, length: 4, hopping: 1eV, disorder: 0.6eV, seed: 5}
energies: {from: 2.51eV, to: 8.13eV, count: 9}
biases: [0.1V, 0.2V]
fermi: 4eV
check_every: 4
)";

Input small() {
  auto input = parse_input(kSmall, "small.yaml");
  EXPECT_TRUE(input) << input.error().message;
  return *input;
}

std::vector<PhaseResult> solved(const Input& input) {
  std::vector<PhaseResult> out;
  Solver solver(input.model);
  for (const Phase& phase : phases_of(input)) {
    const Device device = device_of(input, phase);
    PhaseResult& result = out.emplace_back();
    for (int i = 0; i < input.energies; ++i) {
      const double energy = input.energy_grid()[static_cast<std::size_t>(i)];
      const auto there = solver.solve(device, energy, input.broadening);
      EXPECT_TRUE(there);
      result.transmission.push_back(there->value);
      result.uneven.push_back(there->uneven);
      const auto back = solver.solve(mirrored(device), energy, input.broadening);
      result.reverse.push_back(is_checked(input, i) ? back->value : 0);
    }
  }
  return out;
}

int failed(const std::vector<Check>& checks) {
  int out = 0;
  for (const Check& check : checks) out += check.passed() ? 0 : 1;
  return out;
}

TEST(OmenInput, Example) {
  auto input = load_input(std::string(LIFEBOAT_SOURCE_DIR) + "/configs/omen-input.yaml");
  ASSERT_TRUE(input) << input.error().message;
  EXPECT_EQ(input->model.bands, Bands::kTwo);
  EXPECT_EQ(input->biases.size(), 3u);
}

TEST(OmenInput, Mistakes) {
  const auto input = parse_input("wire: {width: 2, height: 2, length: 4, hopping: 1, bands: two-band}\n"
                                 "energies: {from: 2eV, to: 1eV, count: 9}\nbiases: [0.1V]\n"
                                 "fermi: 4meV\nmomenta: 3\n", "in.yaml");
  ASSERT_FALSE(input);
  for (const char* expected :
       {"in.yaml:1:49: wire.hopping: expected a number from 0.001eV to 100eV with its unit, got '1'",
        "wire.valence_hopping", "in.yaml:2:27: energies.to: must be above `from`", "in.yaml:4:8: fermi: ",
        "in.yaml:5:10: momenta: only a film has more than one"}) {
    EXPECT_NE(input.error().message.find(expected), std::string::npos) << input.error().message;
  }
}

TEST(OmenResults, Phases) {
  Input input = small();
  input.model.film = true;
  input.momenta = 2;
  const auto phases = phases_of(input);
  ASSERT_EQ(phases.size(), 6u);
  EXPECT_TRUE(phases[1].perfect);
  EXPECT_EQ(describe(input, phases[1]), "perfect wire, momentum 2 of 2");
  EXPECT_EQ(describe(input, phases[4]), "bias 0.2 V, momentum 1 of 2");
  EXPECT_DOUBLE_EQ(input.phase_of(0), -input.phase_of(1));
}

TEST(OmenResults, GoodRunPasses) {
  const Input input = small();
  const auto checks = check(input, solved(input));
  ASSERT_EQ(checks.size(), 4u);
  for (const Check& one : checks) EXPECT_TRUE(one.passed()) << one.what << ": " << one.worst;
  EXPECT_EQ(checks[2].points, 9);  // 3 of 9 energies in each of 3 phases
}

TEST(OmenResults, WhatIsWrongFails) {
  const Input input = small();
  const auto good = solved(input);
  const auto spoilt = [&](auto change) {
    auto results = good;
    change(results);
    return failed(check(input, results));
  };
  EXPECT_EQ(spoilt([](auto&) {}), 0);
  // Of the perfect wire, at an energy that is not solved twice.
  EXPECT_EQ(spoilt([](auto& r) { r[0].transmission[1] += 1e-4; }), 1);
  EXPECT_EQ(spoilt([](auto& r) { r[1].uneven[2] = 1e-3; }), 1);
  EXPECT_EQ(spoilt([](auto& r) { r[2].reverse[4] += 1e-4; }), 1);
  EXPECT_EQ(spoilt([](auto& r) { r[2].transmission[1] = 7; }), 1);
  EXPECT_EQ(spoilt([](auto& r) { r[1].uneven[2] = std::numeric_limits<double>::quiet_NaN(); }), 1);
}

TEST(OmenResults, DigestIsOfEveryBit) {
  const Input input = small();
  auto results = solved(input);
  const auto before = digest(results);
  EXPECT_EQ(before, digest(results));
  results[2].transmission[8] = std::nextafter(results[2].transmission[8], 10);
  EXPECT_NE(before, digest(results));
}

TEST(OmenResults, CurrentGrowsWithTheBias) {
  const Input input = small();
  const auto amperes = currents(input, solved(input));
  ASSERT_EQ(amperes.size(), 2u);
  EXPECT_GT(amperes[0], 0);
  EXPECT_GT(amperes[1], amperes[0]);
}

}  // namespace
}  // namespace lifeboat::omen
