// Threads that wait for others should sleep soon: libgomp's, by default, spin for a millisecond and more, and
// where another process wants the cores they take them from the very threads they wait for (bench/README.md).
//
// libgomp reads GOMP_SPINCOUNT when it is loaded, before main(). So the program, unless its user has chosen,
// starts itself once more with it set, and does so before the constructors of its libraries, which take most
// of its start (0.02 s of 0.4).
#include <unistd.h>

#include <climits>
#include <cstring>
#include <vector>

namespace {

void limit_spinning(int, char** argv, char** environment) {
  std::vector<char*> extended;
  for (char** entry = environment; *entry != nullptr; ++entry) {
    for (const char* name : {"GOMP_SPINCOUNT=", "OMP_WAIT_POLICY="})
      if (std::strncmp(*entry, name, std::strlen(name)) == 0) return;
    extended.push_back(*entry);
  }
  static char setting[] = "GOMP_SPINCOUNT=1000";
  extended.push_back(setting);
  extended.push_back(nullptr);
  char program[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", program, sizeof(program) - 1);
  if (length <= 0) return;
  program[length] = '\0';
  ::execve(program, argv, extended.data());  // where that fails, the program goes on as it is
}

[[gnu::section(".preinit_array"), gnu::used]] void (*const before_constructors)(int, char**,
                                                                                char**) = limit_spinning;

}  // namespace
