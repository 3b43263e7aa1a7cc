// report.hpp - an evaluation as JSON for programs and as a table for people. Both are the same to
// the byte for the same input.
#pragma once

#include <string>

#include "predictor/evaluate/evaluate.hpp"

namespace lifeboat::predictor {

[[nodiscard]] std::string to_json_text(const Trial& trial, const Evaluation& evaluation);
[[nodiscard]] std::string to_table(const Trial& trial, const Evaluation& evaluation);

}  // namespace lifeboat::predictor
