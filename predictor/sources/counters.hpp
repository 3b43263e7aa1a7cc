// counters.hpp - counters that the kernel keeps and that only grow, turned into "so many more since
// the last look". The first look and a step backwards (driver reloaded, counter cleared, garbage)
// only set where to count from: what was counted before has no time, and is no event.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace lifeboat::predictor {

class Counters {
 public:
  // How much the counter has grown since the last call with this name; 0 at the first one.
  std::uint64_t grown(const std::string& name, std::uint64_t value);

  // JSON text, with the boot in which it holds; restore() ignores text of another boot, or none.
  [[nodiscard]] std::string save(const std::string& boot_id) const;
  void restore(std::string_view saved, const std::string& boot_id);

 private:
  std::map<std::string, std::uint64_t, std::less<>> last_;
};

}  // namespace lifeboat::predictor
