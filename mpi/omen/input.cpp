#include "input.hpp"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <optional>

#include "base/file.hpp"
#include "base/yaml_reader.hpp"

namespace lifeboat::omen {

namespace {

// A number and its unit, such as `0.5eV`.
struct Quantity {
  std::string unit;
  double min;
  double max;

  static std::string number(double value) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, value).ptr};
  }
  [[nodiscard]] std::string expected() const {
    return "a number from " + number(min) + unit + " to " + number(max) + unit + " with its unit";
  }
  [[nodiscard]] std::optional<double> parse(const std::string& text) const {
    double value = 0;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || std::string_view(rest, end) != unit) return std::nullopt;
    if (!(value >= min && value <= max)) return std::nullopt;
    return value;
  }
};

constexpr double kSlabMax = 4000;  // orbitals of a slab: a matrix of 256 MB

void read_model(yaml::Reader& m, Model& out) {
  const yaml::Choice<Bands> bands{{{"single-band", Bands::kSingle}, {"two-band", Bands::kTwo}}};
  m.optional("bands", out.bands, bands);
  m.required("width", out.width, yaml::Integer{1, 200});
  m.required("height", out.height, yaml::Integer{1, 200});
  m.required("length", out.length, yaml::Integer{2, 100000});
  m.optional("film", out.film, yaml::Boolean{});
  m.required("hopping", out.hopping, Quantity{"eV", 1e-3, 100});
  if (out.bands == Bands::kTwo) {
    m.required("valence_hopping", out.valence_hopping, Quantity{"eV", 1e-3, 100});
    m.required("gap", out.gap, Quantity{"eV", 0, 100});
    m.required("coupling", out.coupling, Quantity{"eV", 0, 100});
  }
  m.optional("disorder", out.disorder, Quantity{"eV", 0, 100});
  m.optional("seed", out.seed, yaml::Integer{0, std::numeric_limits<std::int64_t>::max()});
  if (out.slab_size() > kSlabMax) m.mistake("width", "width x height: more than 4000 orbitals in a slab");
}

void read_input(yaml::Reader& m, Input& out) {
  m.map("wire", [&](yaml::Reader& w) { read_model(w, out.model); });
  m.map("energies", [&](yaml::Reader& e) {
    e.required("from", out.energy_from, Quantity{"eV", -1000, 1000});
    e.required("to", out.energy_to, Quantity{"eV", -1000, 1000});
    e.required("count", out.energies, yaml::Integer{2, 1000000});
    if (out.energy_to <= out.energy_from) e.mistake("to", "must be above `from`");
  });
  m.list("biases", out.biases, {1, 1000}, Quantity{"V", -100, 100});
  m.optional("momenta", out.momenta, yaml::Integer{1, 10000});
  if (out.momenta > 1 && !out.model.film) m.mistake("momenta", "only a film has more than one");
  m.required("fermi", out.fermi, Quantity{"eV", -1000, 1000});
  m.optional("temperature", out.temperature, Quantity{"K", 0.1, 10000});
  m.optional("broadening", out.broadening, Quantity{"eV", 1e-12, 1e-3});
  m.optional("check_every", out.check_every, yaml::Integer{1, 1000000});
  m.optional("phases_at_once", out.phases_at_once, yaml::Integer{1, 1024});
}

}  // namespace

std::vector<double> Input::energy_grid() const {
  std::vector<double> out;
  for (int i = 0; i < energies; ++i) {
    out.push_back(energy_from + (energy_to - energy_from) * i / (energies - 1));
  }
  return out;
}

double Input::phase_of(int momentum) const {
  return model.film ? std::numbers::pi * (2 * (momentum + 0.5) / momenta - 1) : 0;
}

Result<Input> parse_input(std::string_view text, const std::string& name) {
  Input out;
  CHECK_OK(yaml::read(text, name, [&](yaml::Reader& m) { read_input(m, out); }));
  return out;
}

Result<Input> load_input(const std::string& path) {
  TRY(const std::string text, read_file(path));
  return parse_input(text, path);
}

}  // namespace lifeboat::omen
