// What the benchmarks share: the median of repeated timings, and the machine's matrix-product rate as the
// yardstick.
#pragma once

#include <ATen/Functions.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "seigh/base/random.h"
#include "seigh/base/timer.h"

namespace seigh::bench {

/// Median seconds of `repeats` calls after one that is not counted.
inline double median_seconds(int repeats, const std::function<void()>& body) {
  body();
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const Timer timer;
    body();
    seconds.push_back(timer.seconds());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

/// Flop/s of a square matrix product of side 3000, all threads.
inline double gemm_rate(at::ScalarType dtype) {
  const int64_t n = 3000;
  const at::Tensor a = random_gaussian(1, Stream::test, n, 0, n, dtype),
                   b = random_gaussian(2, Stream::test, n, 0, n, dtype);
  at::Tensor c = at::empty({n, n}, dtype);
  return 2.0 * n * n * n / median_seconds(3, [&] { at::mm_out(c, a, b); });
}

}  // namespace seigh::bench
