// text.hpp - what is looked for in foreign text. Nothing here fails on garbage.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace lifeboat {

// Without blanks, tabs and ends of lines around it.
[[nodiscard]] std::string_view trimmed(std::string_view text);
// What is between the separators, empty parts included; one part more than there are separators.
[[nodiscard]] std::vector<std::string_view> split(std::string_view text, char separator);
// The value of a hexadecimal digit; -1: it is none.
[[nodiscard]] int hex_digit(char c);
// A process's effective capabilities, one bit each, by the text of its /proc/PID/status; none where it does not say.
[[nodiscard]] std::uint64_t effective_capabilities(std::string_view status);

}  // namespace lifeboat
