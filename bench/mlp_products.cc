// How long is one curvature-vector product of a fully connected network, and how far from the floor of 6F (4F
// for GGN) floating-point operations at the machine's matrix-product rate?
#include <ATen/Parallel.h>

#include <cstdio>
#include <memory>

#include "bench/support.h"
#include "seigh/core/context.h"
#include "seigh/curvature/autograd_curvature.h"
#include "seigh/curvature/mlp_curvature.h"

using namespace seigh;

namespace {

void row(const char* what, double seconds, double floor) {
  std::printf("  %-34s %9.3f ms  floor %7.3f ms  %5.1f %%\n", what, 1e3 * seconds, 1e3 * floor,
              100 * floor / seconds);
}

void shape(const std::vector<int64_t>& widths, const double* rate, int64_t b, bool slow_ways) {
  const Mlp model(widths, Activation::tanh);
  const int64_t samples = 500;
  const Dataset data{random_gaussian(1, Stream::test, samples, 0, widths[0], at::kFloat),
                     at::arange(samples).remainder(widths.back()), widths.back()};
  const at::Tensor parameters = model.initial_parameters(1);
  double flops = 0;  // F: one forward pass
  for (size_t l = 0; l + 1 < widths.size(); ++l) flops += 2.0 * samples * widths[l] * widths[l + 1];
  std::printf("%s, %lld samples, D = %lld, block of %lld\n", model.description().c_str(),
              static_cast<long long>(samples), static_cast<long long>(model.parameter_count()),
              static_cast<long long>(b));
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    const bool single = dtype == at::kFloat;
    const at::Tensor v = random_gaussian(2, Stream::test, model.parameter_count(), 0, b, dtype);
    for (const CurvatureKind kind : {CurvatureKind::hessian, CurvatureKind::ggn}) {
      MlpCurvatureOperator op(model, parameters, data, {.kind = kind, .dtype = dtype});
      const bool hessian = kind == CurvatureKind::hessian;
      row(single ? (hessian ? "stacked, Hessian, float32" : "stacked, GGN, float32")
                 : (hessian ? "stacked, Hessian, float64" : "stacked, GGN, float64"),
          bench::median_seconds(5, [&] { op.apply(v); }) / b,
          (hessian ? 6 : 4) * flops / rate[single ? 0 : 1]);
    }
    if (!slow_ways) continue;
    const int64_t few = std::min<int64_t>(b, 16);
    AutogradCurvatureOperator autograd(model, parameters, {}, data, {.dtype = dtype});
    row(single ? "autograd, one graph, float32" : "autograd, one graph, float64",
        bench::median_seconds(3, [&] { autograd.apply(v.slice(1, 0, few)); }) / few,
        6 * flops / rate[single ? 0 : 1]);
    row(single ? "autograd, graph redone, float32" : "autograd, graph redone, float64",
        bench::median_seconds(3,
                              [&] {
                                AutogradCurvatureOperator again(model, parameters, {}, data,
                                                                {.dtype = dtype});
                                again.apply(v.slice(1, 0, 1));
                              }),
        6 * flops / rate[single ? 0 : 1]);
  }
}

}  // namespace

int main() {
  at::set_num_threads(available_cores());
  const double rate[2] = {bench::gemm_rate(at::kFloat), bench::gemm_rate(at::kDouble)};
  std::printf("matrix products on %d threads: %.0f GFLOP/s float32, %.0f GFLOP/s float64\n",
              at::get_num_threads(), rate[0] / 1e9, rate[1] / 1e9);
  shape({256, 20, 20, 20, 20, 20, 10}, rate, 256, true);
  shape({784, 256, 256, 10}, rate, 32, true);
  shape({64, 500, 500, 500, 10}, rate, 16, false);
}
