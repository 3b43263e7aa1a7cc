#include "api_routes.hpp"

#include <algorithm>
#include <charconv>

namespace lifeboat {

namespace {

constexpr Route kRoutes[] = {
    {http::verb::get, "/v1/status", "status"},
    {http::verb::get, "/v1/metrics", "metrics"},
    {http::verb::get, "/v1/events", "events"},
    {http::verb::get, "/v1/view", "view"},
    {http::verb::get, "/v1/nodes", "nodes"},
    {http::verb::get, "/v1/nodes/{node}", "node.get"},
    {http::verb::get, "/v1/nodes/{node}/plan", "node.plan"},
    {http::verb::post, "/v1/nodes/{node}/degrade", "node.degrade"},
    {http::verb::post, "/v1/nodes/{node}/restore", "node.restore"},
    {http::verb::post, "/v1/nodes/{node}/evacuate", "node.evacuate"},
    {http::verb::get, "/v1/containers", "containers"},
    {http::verb::get, "/v1/containers/{id}/logs", "container.logs"},
    {http::verb::post, "/v1/containers/{id}/kill", "container.kill"},
    {http::verb::post, "/v1/containers/{container}/migrate", "migrate"},
    {http::verb::get, "/v1/migrations", "migration.list"},
    {http::verb::post, "/v1/migrations/plan", "migration.plan"},
    {http::verb::get, "/v1/migrations/{id}", "migration.get"},
    {http::verb::post, "/v1/migrations/{id}/cancel", "migration.cancel"},
    {http::verb::post, "/v1/migrations/{id}/resolve", "migration.resolve"},
    {http::verb::get, "/v1/jobs", "job.list"},
    {http::verb::post, "/v1/jobs", "job.run"},
    {http::verb::get, "/v1/jobs/{name}", "job.get"},
    {http::verb::get, "/v1/jobs/{name}/logs", "job.logs"},
    {http::verb::post, "/v1/jobs/{name}/kill", "job.kill"},
};

// One segment of a path; advances `rest` past it.
std::string_view next_segment(std::string_view& rest) {
  if (!rest.empty() && rest.front() == '/') rest.remove_prefix(1);
  const auto end = rest.find('/');
  const std::string_view segment = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end);
  return segment;
}

bool match_path(std::string_view pattern, std::string_view path, json::object& params) {
  while (!pattern.empty() && !path.empty()) {
    const std::string_view wanted = next_segment(pattern);
    const std::string_view given = next_segment(path);
    if (wanted.front() == '{') {
      if (given.empty()) return false;
      const auto key = wanted.substr(1, wanted.size() - 2);
      params[json::string_view(key.data(), key.size())] =
          json::string_view(given.data(), given.size());
    } else if (wanted != given) {
      return false;
    }
  }
  return pattern.empty() && path.empty();
}

void add_query(std::string_view query, json::object& params) {
  while (!query.empty()) {
    const auto end = query.find('&');
    const std::string_view pair = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view() : query.substr(end + 1);
    const auto equals = pair.find('=');
    if (equals == std::string_view::npos) continue;
    const json::string_view key(pair.data(), equals);
    const std::string_view value = pair.substr(equals + 1);
    std::uint64_t number = 0;
    const auto parsed = std::from_chars(value.data(), value.data() + value.size(), number);
    if (parsed.ec == std::errc() && parsed.ptr == value.data() + value.size()) {
      params[key] = number;
    } else {
      params[key] = json::string_view(value.data(), value.size());
    }
  }
}

}  // namespace

std::string match_route(http::verb verb, std::string_view target, json::object& params) {
  // Anything else is no URL, and could not be passed on to another node as JSON.
  const auto is_plain = [](unsigned char c) { return c > ' ' && c < 0x7f; };
  if (!target.starts_with('/') || !std::all_of(target.begin(), target.end(), is_plain)) return "";
  const auto question = target.find('?');
  const std::string_view path = target.substr(0, question);
  for (const Route& route : kRoutes) {
    json::object found;
    if (route.verb != verb || !match_path(route.path, path, found)) continue;
    if (question != std::string_view::npos) add_query(target.substr(question + 1), params);
    // Last: what the path names is what is meant, whatever else the request says.
    for (const auto& item : found) params[item.key()] = item.value();
    return std::string(route.method);
  }
  return "";
}

}  // namespace lifeboat
