// lifeboat-inject PID: makes a userfaultfd in that process and sends it over descriptor 3, or why it cannot.
// See criu_glue/inject.hpp.
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "criu_glue/inject.hpp"

int main(int argc, char** argv) {
  const int pid = argc == 2 ? std::atoi(argv[1]) : 0;
  if (pid <= 0) {
    std::cerr << "usage: lifeboat-inject PID\nlifeboatd starts this; it answers over descriptor 3.\n";
    return 2;
  }
  lifeboat::answer_injection(lifeboat::kInjectorSocket, pid);
  return 0;
}
