// A plain parallel loop over the threads of the calling thread's scope (context.h).
#pragma once

#include <cstdint>
#include <functional>

namespace seigh {

/// Calls body(0), ..., body(n - 1), each once. The result must not depend on the order. An exception thrown
/// by one call is rethrown after all have ended.
void parallel_for(int64_t n, const std::function<void(int64_t)>& body);

}  // namespace seigh
