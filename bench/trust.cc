// The audit of tests/trust, large: the table of docs/theory.md.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/trust/audit.h"

int main(int argc, char** argv) {
  const int64_t rounds = argc > 1 ? std::atoll(argv[1]) : 12;
  const bool rounded = argc > 2 && std::string(argv[2]) == "rounded";  // by products of 8 bits
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  seigh::test::run_audit({1, 2, 3, 9, 60, 130, 300}, rounds, 1000, rounded).print();
}
