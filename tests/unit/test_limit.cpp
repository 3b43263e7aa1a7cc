// No test of these takes minutes. One that does hangs: it says where, and ends the program, so that whoever reads the
// log of a machine that is gone knows which it was.
#include <execinfo.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <tuple>

namespace {

constexpr unsigned kLimitS = 300;  // the longest takes a tenth of that on two slow processors
char running[512];                 // the name of the test

void say(const char* text, std::size_t size) { std::ignore = ::write(STDOUT_FILENO, text, size); }

void tell_and_end(int) {
  char line[700];
  say(line, static_cast<std::size_t>(std::snprintf(line, sizeof(line), "%s did not end in %u s; it is in\n", running,
                                                   kLimitS)));
  void* frames[64];
  ::backtrace_symbols_fd(frames, ::backtrace(frames, 64), STDOUT_FILENO);
  const char* end = std::snprintf(line, sizeof(line), "[  FAILED  ] %s (%u ms)\n", running, kLimitS * 1000) + line;
  say(line, static_cast<std::size_t>(end - line));
  ::_exit(1);
}

class Limit : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo& test) override {
    std::snprintf(running, sizeof(running), "%s.%s", test.test_suite_name(), test.name());
    ::alarm(kLimitS);
  }
  void OnTestEnd(const ::testing::TestInfo&) override { ::alarm(0); }
};

const bool kListens = [] {
  void* frames[1];
  ::backtrace(frames, 1);  // loads what it needs, which a handler may not
  ::signal(SIGALRM, tell_and_end);
  ::testing::UnitTest::GetInstance()->listeners().Append(new Limit);
  return true;
}();

}  // namespace
