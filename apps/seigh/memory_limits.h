// Limits that the system sets on this process: memory (ulimit -v, ulimit -d, strict overcommit) and threads
// (ulimit -u). What meets them within a library ends badly: OpenBLAS asks for memory again and again for
// ever, MKL crashes, OpenMP exits. So what libraries take is asked for before the work begins, and tensors
// are held under a ceiling that leaves it to them.
#pragma once

#include <cstdint>

namespace seigh::app {

/// Bytes that libraries take with so many threads, measured.
int64_t taken_by_libraries(int threads);
/// Whether the system would give so many bytes of address space.
bool can_be_had(int64_t bytes);

/// Ceiling of this process's memory (ContextOptions::memory) that its limits call for with so many threads
/// of each of the `processes` that share the machine; 0: none. Throws Error when the limits are too low for
/// the libraries themselves, or for so many threads.
int64_t memory_within_limits(int threads, int processes);

}  // namespace seigh::app
