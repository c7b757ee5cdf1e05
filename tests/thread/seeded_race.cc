// A race put there on purpose: the thread sanitizer must find it, else its silence about the rest says
// nothing.
#include <thread>

int main() {
  int count = 0;
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) ++count;
  });
  for (int i = 0; i < 1000; ++i) ++count;
  other.join();
  return count == 0;
}
