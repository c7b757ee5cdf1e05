// How long is one curvature-vector product of 3c3d, and how far from the floor and from the textbook way?
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "bench/support.h"
#include "seigh/base/memory_pool.h"
#include "seigh/base/parallel.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/problem/convnets.h"

using namespace seigh;

int main(int argc, char** argv) {
  use_memory_pool();
  set_threads(0);
  const int64_t batch = argc > 1 ? std::atoi(argv[1]) : 0;
  const double rate = bench::gemm_rate(at::kFloat);
  std::printf("%.0f GFLOP/s\n", rate / 1e9);
  const ThreeC3d model({3, 32, 32}, 10, {});
  const int64_t n = 500, b = argc > 2 ? std::atoi(argv[2]) : 32;
  const Dataset data{
      random_gaussian(1, Stream::test, n, 0, 3 * 1024, at::kFloat).reshape({n, 3, 32, 32}).contiguous(),
      at::arange(n).remainder(10), 10};
  const at::Tensor v = random_gaussian(2, Stream::test, model.parameter_count(), 0, b, at::kFloat);
  const double F = 16.4e9;
  for (const CurvatureKind kind : {CurvatureKind::hessian, CurvatureKind::ggn}) {
    AutogradCurvatureOperator op(model, model.initial_parameters(1), {}, data,
                                 {.kind = kind, .batch_size = batch});
    reset_peak_tensor_bytes();
    const double s = bench::median_seconds(3, [&] { op.apply(v); }) / b;
    const double flops = (kind == CurvatureKind::hessian ? 6 : 4) * F;
    std::printf("%s batch %ld workers %d: %.3f s, floor %.3f, %.1f %%, peak %s\n", to_string(kind).c_str(),
                op.batch_size(), op.workers(), s, flops / rate, 100 * flops / rate / s,
                format_bytes(peak_tensor_bytes()).c_str());
  }
}
