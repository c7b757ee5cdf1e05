#include "apps/seigh/memory_limits.h"

#include <dlfcn.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <limits>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "seigh/core/error.h"
#include "seigh/core/memory.h"
#include "seigh/core/pool.h"

namespace seigh::app {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kLeast = 16 * kMiB;  // of tensors, or no work can be done

// OpenBLAS's buffers have 128 MiB; the first two are made when it is loaded, each thread then takes up to
// two.
static bool openblas() {
  static const bool loaded = ::dlsym(RTLD_DEFAULT, "openblas_get_config") != nullptr;
  return loaded;
}

// Measured with PyTorch 2.13 and MKL: 66 MiB and 16 for each thread, half of it its stack; MKL ends in a
// crash where it is refused memory, so three times that.
int64_t taken_by_libraries(int threads) {
  return 64 * kMiB + threads * (openblas() ? 2 * 128 + 16 : 48) * kMiB;
}

bool can_be_had(int64_t bytes) {
  void* const place = ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return place != MAP_FAILED && ::munmap(place, static_cast<size_t>(bytes)) == 0;
}

namespace {

// What the limits leave.
int64_t room() {
  int64_t size = 0, resident = 0, shared = 0, text = 0, library = 0, data = 0;
  std::ifstream("/proc/self/statm") >> size >> resident >> shared >> text >> library >> data;
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const auto& [which, used] : {std::pair(RLIMIT_AS, size), std::pair(RLIMIT_DATA, data)}) {
    rlimit limit = {};
    if (::getrlimit(which, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
      least = std::min(
          least, static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, int64_t{1} << 62)) - used * page);
  }
  return least;
}

// libgomp exits where it cannot start a thread.
void require_threads(int threads) {
  std::mutex mutex;
  std::condition_variable all_there;
  bool may_end = false;
  std::vector<std::thread> team;
  std::string obstacle;
  try {
    team.reserve(static_cast<size_t>(threads));  // nothing may be thrown between a thread and its place
    for (int i = 1; i < threads; ++i) {
      team.emplace_back([&] {
        std::unique_lock lock(mutex);
        all_there.wait(lock, [&] { return may_end; });
      });
    }
  } catch (const std::system_error& error) {
    obstacle = error.code().message();
  } catch (const std::bad_alloc&) {
    obstacle = "not enough memory";
  }
  {
    const std::lock_guard lock(mutex);
    may_end = true;
  }
  all_there.notify_all();
  for (std::thread& thread : team) thread.join();
  require(obstacle.empty(), "cannot start ", threads, " threads: ", obstacle,
          "; take fewer with --threads, or raise this process's limits (ulimit -u, ulimit -v)");
}

}  // namespace

int64_t memory_within_limits(int threads, int processes) {
  if (threads < 1 || threads > 4096) return 0;  // the Context refuses it
  // Threads' own arenas would take 64 MiB of address space each, which MKL, that does not look, is then short
  // of.
  rlimit addresses = {};
  if (::getrlimit(RLIMIT_AS, &addresses) == 0 && addresses.rlim_cur != RLIM_INFINITY)
    ::mallopt(M_ARENA_MAX, 1);
  const int64_t libraries = taken_by_libraries(threads);
  const std::string remedy =
      "; raise the limit on this process (ulimit -v, ulimit -d), or take fewer with --threads";
  require(can_be_had(libraries + kLeast), "not enough memory: the libraries take ", format_bytes(libraries),
          " for ", threads, threads == 1 ? " thread" : " threads", remedy);
  require_threads(threads);
  const int64_t all = room();
  if (all == std::numeric_limits<int64_t>::max()) return 0;
  Memory unlimited(0, processes);
  unlimited.recount();
  const int64_t tensors = std::max(all - libraries, kLeast);
  return tensors < unlimited.available() ? pool::usage(*unlimited.account()).others + tensors : 0;
}

}  // namespace seigh::app
