// tree.hpp - a directory that stands for a node's root in the tests of the sources.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "predictor/source.hpp"
#include "predictor/sources/text.hpp"

namespace lifeboat::predictor {

class Tree {
 public:
  Tree() {
    char name[] = "/tmp/lifeboat-sources-XXXXXX";
    root_ = ::mkdtemp(name);
  }
  ~Tree() { std::filesystem::remove_all(root_); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  [[nodiscard]] Place place() const { return {root_, "n1"}; }
  [[nodiscard]] std::string path(const std::string& below) const { return root_ + below; }
  void write(const std::string& below, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path(below)).parent_path());
    std::ofstream(path(below), std::ios::binary) << text;
  }
  void script(const std::string& below, const std::string& body) const {
    write(below, "#!/bin/sh\n" + body + "\n");
    ::chmod(path(below).c_str(), 0755);
  }
  void boot(const std::string& id, const std::string& uptime = "1000.00 2000.00\n") const {
    write("/proc/sys/kernel/random/boot_id", id + "\n");
    write("/proc/uptime", uptime);
  }

 private:
  std::string root_;
};

inline constexpr Time kNow{std::chrono::seconds(1'700'000'000)};

// Polls until there is an event or an error, at most 10 s: programs take their time.
inline Result<std::vector<Event>> poll_until_done(Source& source, Time now = kNow) {
  auto events = source.poll(now);
  for (int i = 0; i < 1000 && events && events->empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    events = source.poll(now);
  }
  return events;
}

inline std::string error_of(const Result<std::vector<Event>>& events) {
  return events ? std::string("no error") : events.error().message;
}

inline std::string garbage(std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i) text += static_cast<char>((i * 2654435761u) >> 13);
  return text;
}

}  // namespace lifeboat::predictor
