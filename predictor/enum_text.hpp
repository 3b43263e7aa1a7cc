// enum_text.hpp - from the text form of an enumeration back to it; the names stand in its order.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace lifeboat::predictor {

// kInvalid naming what there is: "no cause 'moon'; there are heartbeat, operator, ...".
template <class Enum, std::size_t kCount>
Result<Enum> enum_from(const std::array<std::string_view, kCount>& names, std::string_view what,
                       std::string_view text) {
  const auto at = std::find(names.begin(), names.end(), text);
  if (at != names.end()) return static_cast<Enum>(at - names.begin());
  std::string known;
  for (const std::string_view name : names) {
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  return fail(Errc::kInvalid, "no " + std::string(what) + " '" + std::string(text.substr(0, 64)) +
                                  "'; there are " + known);
}

}  // namespace lifeboat::predictor
