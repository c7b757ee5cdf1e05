#include "seigh/core/parallel.h"

#include <ATen/Parallel.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <thread>
#include <vector>

#include "seigh/core/error.h"

namespace seigh {
namespace {

int processes = 1;

// Those this process may use, and of the machine's no more than its part: mpirun may bind it to fewer.
int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int mine = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
  return processes == 1 ? mine
                        : std::clamp(static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)) / processes, 1, mine);
}

}  // namespace

void set_threads(int threads) {
  require(threads >= 0 && threads <= 4096, "threads must be between 0 (all cores) and 4096, not ", threads);
  at::set_num_threads(threads == 0 ? available_cores() : threads);
}

void share_machine(int count) {
  processes = count;
}

int processes_on_machine() {
  return processes;
}

int threads() {
  return at::get_num_threads();
}

void parallel_for(int64_t n, const std::function<void(int64_t)>& body) {
  at::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

void run_workers(int n, const std::function<void(int)>& body) {
  if (n == 1) return body(0);
  const int before = at::get_num_threads();
  std::vector<std::exception_ptr> errors(static_cast<size_t>(n));
  std::vector<std::thread> workers;
  for (int i = 0; i < n; ++i) {
    workers.emplace_back([&, i] {
      try {
        at::set_num_threads(1);  // of this thread
        body(i);
      } catch (...) {
        errors[static_cast<size_t>(i)] = std::current_exception();
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  at::set_num_threads(before);  // what threads made later begin with
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace seigh
