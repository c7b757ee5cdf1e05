// Wall-clock time and peak memory of this process.
#pragma once

#include <chrono>
#include <cstdint>

namespace seigh {

/// Seconds since construction, on the monotonic clock.
class Timer {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

/// Peak resident memory of this process so far, in bytes.
int64_t peak_memory_bytes();

}  // namespace seigh
