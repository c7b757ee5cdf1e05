// Of the program alone: what must stand before its libraries are loaded, so that one which is refused memory
// does not try for ever (memory_limits.h).
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

#include "apps/seigh/memory_limits.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // those have an mmap() of their own
namespace seigh::app {
namespace {

[[noreturn]] void end(const char* message) {
  const ssize_t written = ::write(STDERR_FILENO, message, std::strlen(message));
  ::_exit(written >= 0 ? 2 : 1);
}

// An exception that nobody can catch: thrown while libraries are loaded, or by one that lets none through.
[[noreturn]] void on_terminate() {
  try {
    if (const auto error = std::current_exception()) std::rethrow_exception(error);
  } catch (const std::bad_alloc&) {
    end("seigh: not enough memory; raise the limit on this process (ulimit -v, ulimit -d)\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "seigh: %.*s\n", static_cast<int>(std::strcspn(error.what(), "\n")), error.what());
    ::_exit(1);
  } catch (...) {
  }
  std::abort();
}

// Before the constructors of libraries, of which OpenBLAS's would try for ever.
void before_libraries(int, char**, char**) {
  std::set_terminate(on_terminate);
  if (!can_be_had(taken_by_libraries(1)))
    end("seigh: not enough memory to start in; raise the limit on this process (ulimit -v, ulimit -d)\n");
}

[[gnu::section(".preinit_array"), gnu::used]] void (*const before_constructors)(int, char**,
                                                                                char**) = before_libraries;

}  // namespace
}  // namespace seigh::app

// Libraries call this mmap(). One that is refused so often in a row is trying for ever.
extern "C" void* mmap(void* address, size_t bytes, int protection, int flags, int file,
                      off_t offset) noexcept {
  thread_local int refused = 0;
  const long place = ::syscall(SYS_mmap, address, bytes, protection, flags, file, offset);
  refused = place == -1 && errno == ENOMEM ? refused + 1 : 0;
  constexpr int kForEver = 10'000;
  if (refused == kForEver)
    seigh::app::end(
        "seigh: not enough memory: a library asks for more in vain; raise the limit on this process (ulimit "
        "-v, "
        "ulimit -d), or take fewer threads (--threads)\n");
  return reinterpret_cast<void*>(place);
}
extern "C" void* mmap64(void* address, size_t bytes, int protection, int flags, int file,
                        off_t offset) noexcept {
  return mmap(address, bytes, protection, flags, file, offset);
}
#endif
