// fuzz.hpp - what every fuzzer needs: a way to say that an invariant does not hold, and a directory.
//
// A fuzzer is one file NAME_fuzz.cpp and its inputs in corpus/NAME. Beyond "no crash, no undefined
// behaviour, no leak" it requires what the parser promises: that what it took comes out again as it
// was, that it stays within its bounds, that a refusal says something.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace lifeboat::fuzz {

// Ends the program, which libFuzzer takes as a finding.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

// For people and for a line of a log.
inline void require_good(const Error& error) {
  require(!error.message.empty(), "an error says something");
  require(error.message.size() < 64U << 10, "an error is not longer than anybody would read");
}

template <class T>
void require_good(const Result<T>& result) {
  if (!result) require_good(result.error());
}

inline std::string_view text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// An empty directory in memory, gone with the object.
class Directory {
 public:
  Directory() {
    char name[] = "/dev/shm/lifeboat-fuzz-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string path(const std::string& below = "") const { return path_ + below; }
  // Makes the directories above it, too.
  void write(const std::string& below, std::string_view contents) const {
    std::filesystem::create_directories(std::filesystem::path(path(below)).parent_path());
    std::ofstream(path(below), std::ios::binary) << contents;
  }

 private:
  std::string path_;
};

}  // namespace lifeboat::fuzz
