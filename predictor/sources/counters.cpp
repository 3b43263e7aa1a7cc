#include "predictor/sources/counters.hpp"

#include "base/json.hpp"

namespace lifeboat::predictor {

std::uint64_t Counters::grown(const std::string& name, std::uint64_t value) {
  const auto [at, is_new] = last_.try_emplace(name, value);
  const std::uint64_t before = at->second;
  at->second = value;
  return is_new || value < before ? 0 : value - before;
}

std::string Counters::save(const std::string& boot_id) const {
  json::object values;
  for (const auto& [name, value] : last_) values[name] = value;
  return json::serialize(json::object{{"boot", boot_id}, {"values", std::move(values)}});
}

void Counters::restore(std::string_view saved, const std::string& boot_id) {
  const auto object = parse_object(saved);
  if (!object || string_or(*object, "boot") != boot_id) return;
  const auto values = get_object(*object, "values");
  if (!values) return;
  for (const auto& item : **values) {
    if (const auto value = get_u64(**values, std::string(item.key()))) {
      last_[std::string(item.key())] = *value;
    }
  }
}

}  // namespace lifeboat::predictor
