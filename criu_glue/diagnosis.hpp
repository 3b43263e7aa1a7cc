// diagnosis.hpp - what CRIU's log says about a failure, in a form a person can act on.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace lifeboat {

// The lines of CRIU's log that matter: errors, at most 8 of them, without time and pid stamps.
std::string criu_log_excerpt(std::string_view log);

// A known cause and what to do about it, or nothing.
std::string criu_advice(std::string_view log);

// `error` with the excerpt and the advice of the log file at `log_path` appended.
Error explain_criu(const Error& error, const std::string& log_path);

}  // namespace lifeboat
