// json.hpp - Boost.JSON and a few accessors that turn a missing or wrong member into an error.
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace lifeboat {

namespace json = boost::json;

// Parses an object from foreign text: at most 16 levels deep. kProtocol when it is not one.
Result<json::object> parse_object(std::string_view text);

// Members of an object from a peer or a user; kProtocol "member 'x' ..." when missing or wrong.
Result<std::string> get_string(const json::object& object, std::string_view key);
Result<std::uint64_t> get_u64(const json::object& object, std::string_view key);
Result<const json::array*> get_array(const json::object& object, std::string_view key);
Result<const json::object*> get_object(const json::object& object, std::string_view key);

// Its items, all strings, at most `max` of them.
Result<std::vector<std::string>> get_strings(const json::object& object, std::string_view key,
                                             std::size_t max);
[[nodiscard]] json::array to_array(const std::vector<std::string>& strings);

// Optional members: the default when absent or of another type.
std::string string_or(const json::object& object, std::string_view key, std::string fallback = "");
double number_or(const json::object& object, std::string_view key, double fallback = 0);
// False when absent or no bool.
bool flag(const json::object& object, std::string_view key);

}  // namespace lifeboat
