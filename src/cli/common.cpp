#include <iostream>

#include "cli/cli.hpp"
#include "cluster_view.hpp"

namespace lifeboat {

int tell(const Error& error, const Options& options) {
  if (options.as_json) {
    const json::object body{
        {"error", json::object{{"code", to_string(error.code)}, {"message", error.message}}}};
    std::cout << json::serialize(body) << "\n";
  } else {
    std::cerr << "lifeboat: " << error.message << "\n";
  }
  return error.code == Errc::kUnavailable ? kNoDaemon : kFailed;
}

bool Patience::allows(const Error& error) {
  if (error.code != Errc::kUnavailable && error.code != Errc::kTimeout) return false;
  const auto now = std::chrono::steady_clock::now();
  if (!silent_since_) silent_since_ = now;
  return now - *silent_since_ < limit_;
}

void print_json(const json::object& object) { std::cout << json::serialize(object) << "\n"; }

std::string mib(const json::object& object, std::string_view key) {
  return std::to_string(static_cast<std::uint64_t>(number_or(object, key)) >> 20) + " MiB";
}

std::string fixed(double value, int digits) {
  char text[48];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

int show_list(const Result<json::object>& answer, const Options& options, const char* key,
              const std::vector<std::string>& head,
              const std::function<std::vector<std::string>(const json::object&)>& row) {
  if (!answer) return tell(answer.error(), options);
  if (options.as_json) {
    print_json(*answer);
    return kOk;
  }
  Table table(head);
  if (auto list = get_array(*answer, key); !list) return tell(list.error(), options);
  for (const json::object* item : objects_of(*answer, key)) table.add(row(*item));
  std::cout << table.text();
  for (const char* silent_key : {"unreachable", "silent"}) {
    auto silent = get_array(*answer, silent_key);
    if (!silent || (*silent)->empty()) continue;
    std::cerr << "lifeboat: these nodes do not answer: " << json::serialize(**silent) << "\n";
  }
  return kOk;
}

}  // namespace lifeboat
