// The thread budget: how many threads seigh uses, and a plain parallel loop over them.
#pragma once

#include <cstdint>
#include <functional>

namespace seigh {

/// Sets the number of threads for libtorch, BLAS and seigh's own loops; 0 means all cores this process may
/// use. Call it once, before the first tensor operation.
void set_threads(int threads);
/// Says that so many processes share this machine: each takes its part of the cores (set_threads(0)) and of
/// the memory (available_memory() without a ceiling).
void share_machine(int processes);
int processes_on_machine();
/// Threads in force.
int threads();
/// Calls body(0), ..., body(n - 1), each once, over the threads in force. The result must not depend on the
/// order. An exception thrown by one call is rethrown after all have ended.
void parallel_for(int64_t n, const std::function<void(int64_t)>& body);
/// Calls body(0), ..., body(n - 1) at the same time, each on a thread of its own in which libtorch and BLAS
/// use one thread. An exception thrown by one call is rethrown after all have ended.
void run_workers(int n, const std::function<void(int)>& body);

}  // namespace seigh
