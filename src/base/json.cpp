#include "base/json.hpp"

#include <boost/json/src.hpp>

namespace lifeboat {
namespace {

tl::unexpected<Error> wrong(std::string_view key, const char* wanted) {
  return fail(Errc::kProtocol,
              "member '" + std::string(key) + "' is missing or not " + std::string(wanted));
}

}  // namespace

Result<json::object> parse_object(std::string_view text) {
  json::parse_options options;
  options.max_depth = 16;
  boost::system::error_code error;
  json::value value = json::parse(json::string_view(text.data(), text.size()), error, {}, options);
  if (error) return fail(Errc::kProtocol, "not valid JSON: " + error.message());
  if (!value.is_object()) return fail(Errc::kProtocol, "expected a JSON object");
  return std::move(value.as_object());
}

Result<std::string> get_string(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(json::string_view(key.data(), key.size()));
  if (value == nullptr || !value->is_string()) return wrong(key, "a string");
  return std::string(value->get_string());
}

Result<std::uint64_t> get_u64(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(json::string_view(key.data(), key.size()));
  if (value == nullptr) return wrong(key, "a number");
  boost::system::error_code error;
  const auto number = value->to_number<std::uint64_t>(error);
  if (error) return wrong(key, "a whole number from 0 on");
  return number;
}

Result<const json::array*> get_array(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(json::string_view(key.data(), key.size()));
  if (value == nullptr || !value->is_array()) return wrong(key, "a list");
  return &value->get_array();
}

Result<const json::object*> get_object(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(json::string_view(key.data(), key.size()));
  if (value == nullptr || !value->is_object()) return wrong(key, "an object");
  return &value->get_object();
}

Result<std::vector<std::string>> get_strings(const json::object& object, std::string_view key,
                                             std::size_t max) {
  TRY(const json::array* list, get_array(object, key));
  if (list->size() > max) return fail(Errc::kProtocol, std::string(key) + ": too long a list");
  std::vector<std::string> strings;
  for (const json::value& item : *list) {
    if (!item.is_string()) return fail(Errc::kProtocol, std::string(key) + ": not all are strings");
    strings.emplace_back(item.get_string());
  }
  return strings;
}

json::array to_array(const std::vector<std::string>& strings) {
  json::array list;
  for (const std::string& item : strings) list.emplace_back(item);
  return list;
}

std::string string_or(const json::object& object, std::string_view key, std::string fallback) {
  const json::value* value = object.if_contains(json::string_view(key.data(), key.size()));
  if (value == nullptr || !value->is_string()) return fallback;
  return std::string(value->get_string());
}

double number_or(const json::object& object, std::string_view key, double fallback) {
  const json::value* value = object.if_contains(json::string_view(key.data(), key.size()));
  if (value == nullptr) return fallback;
  boost::system::error_code error;
  const auto number = value->to_number<double>(error);
  return error ? fallback : number;
}

bool flag(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(json::string_view(key.data(), key.size()));
  return value != nullptr && value->is_bool() && value->get_bool();
}

}  // namespace lifeboat
