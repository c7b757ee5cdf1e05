// What the benchmarks share: the median of repeated timings, and the machine's matrix-product rate as the
// yardstick.
#pragma once

#include <ATen/Functions.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "seigh/core/random.h"
#include "seigh/core/timer.h"

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

/// F: floating-point operations of `body`, those of its convolutions and matrix products.
inline double count_flops(const std::function<void()>& body) {
  static double flops;
  flops = 0;
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& call) -> std::unique_ptr<at::ObserverContext> {
        const std::string name = call.name();
        const auto inputs = call.inputs();
        const auto tensor = [&](size_t i) { return inputs[i].toTensor(); };
        if (name == "aten::convolution") {
          // Every weight meets every output position of every sample.
          const at::Tensor x = tensor(0), w = tensor(1);
          const auto stride = inputs[3].toIntVector(), padding = inputs[4].toIntVector();
          double positions = static_cast<double>(x.size(0));
          for (size_t d = 0; d < 2; ++d) {
            const auto dim = static_cast<int64_t>(d) + 2;
            // One number stands for both dimensions.
            const int64_t step = stride.size() > 1 ? stride[d] : stride[0],
                          margin = padding.size() > 1 ? padding[d] : padding[0];
            positions *= static_cast<double>((x.size(dim) + 2 * margin - w.size(dim)) / step + 1);
          }
          flops += 2 * positions * static_cast<double>(w.numel());
        } else if (name == "aten::mm") {
          flops += 2.0 * static_cast<double>(tensor(0).numel()) * static_cast<double>(tensor(1).size(1));
        } else if (name == "aten::addmm") {
          flops += 2.0 * static_cast<double>(tensor(1).numel()) * static_cast<double>(tensor(2).size(1));
        } else if (name == "aten::bmm") {
          flops += 2.0 * static_cast<double>(tensor(0).numel()) * static_cast<double>(tensor(1).size(2));
        }
        return nullptr;
      }).needsInputs(true));
  body();
  at::removeCallback(handle);
  return flops;
}

}  // namespace seigh::bench
