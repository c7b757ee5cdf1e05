// On which maps are convolutions faster as matrix products (seigh/curvature/small_maps.h) than libtorch's
// own? One thread; milliseconds of the output, the input gradient and the weight gradient, each by both ways,
// how many times faster the matrix products are, and their rate, taps on padding counted.
//
//   convolutions [float64]
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/convolution_backward_compositeexplicitautograd_dispatch.h>
#include <ATen/ops/convolution_compositeexplicitautograd_dispatch.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "bench/support.h"
#include "seigh/core/context.h"
#include "seigh/curvature/small_maps.h"

using namespace seigh;

namespace {

struct Layer {
  int64_t map, in, out, kernel, stride, padding;
};

void compare(const Layer& l, int64_t samples, at::ScalarType dtype) {
  const auto draw = [&](const std::vector<int64_t>& shape, uint64_t seed) {
    return random_gaussian(seed, Stream::test, c10::multiply_integers(shape), 0, 1, dtype).reshape(shape);
  };
  const std::vector<int64_t> stride = {l.stride, l.stride}, padding = {l.padding, l.padding}, one = {1, 1},
                             none = {0, 0};
  const at::Tensor x = draw({samples, l.in, l.map, l.map}, 1), w = draw({l.out, l.in, l.kernel, l.kernel}, 2);
  const auto plain = [&] {
    return at::compositeexplicitautograd::convolution(x, w, {}, stride, padding, one, false, none, 1);
  };
  const at::Tensor y = plain(), g = draw(y.sizes().vec(), 3);
  const auto backward = [&](std::array<bool, 3> mask) {
    return at::compositeexplicitautograd::convolution_backward(g, x, w, std::nullopt, stride, padding, one,
                                                               false, none, 1, mask);
  };
  const auto products = [&] { return SmallMapConvolution(x.sizes(), w.sizes(), stride, padding, one); };
  const auto milliseconds = [](const std::function<void()>& body) {
    double least = 1e9;
    for (int i = 0; i < 3; ++i) least = std::min(least, bench::median_seconds(5, body));
    return 1e3 * least;
  };
  const double flops = 2.0 * static_cast<double>(y.numel()) * static_cast<double>(w.numel() / l.out);
  const auto number = [](int64_t i) { return static_cast<long long>(i); };
  std::printf("%2lld x %-2lld %4lld -> %-4lld k%lld s%lld %4lld", number(l.map), number(l.map), number(l.in),
              number(l.out), number(l.kernel), number(l.stride), number(samples));
  const auto line = [&](double own, double theirs) {
    std::printf("  %7.2f %7.2f %5.2fx (%4.0f GF/s)", own, theirs, theirs / own, flops / own / 1e6);
  };
  line(milliseconds([&] { products().output(x, w, {}); }), milliseconds([&] { plain(); }));
  line(milliseconds([&] { products().input_gradient(g, w); }), milliseconds([&] {
         backward({true, false, false});
       }));
  line(milliseconds([&] { products().weight_gradient(g, x); }), milliseconds([&] {
         backward({false, true, false});
       }));
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const at::ScalarType dtype = argc > 1 && std::string(argv[1]) == "float64" ? at::kDouble : at::kFloat;
  const at::AutoDispatchBelowAutograd kernels;  // as they are called from within autograd
  at::set_num_threads(1);
  std::printf("matrix products on one thread: %.0f GFLOP/s\n", bench::gemm_rate(dtype) / 1e9);
  std::printf("%-29s  %-35s %-35s %-35s\n", "map, channels, samples", "output: products, libtorch",
              "input gradient", "weight gradient");
  const Layer layers[] = {
      {1, 512, 512, 3, 1, 1}, {2, 256, 512, 3, 2, 1}, {2, 256, 512, 1, 2, 0},  {2, 256, 256, 3, 1, 1},
      {4, 128, 256, 3, 2, 1}, {4, 128, 256, 1, 2, 0}, {4, 128, 128, 3, 1, 1},  {4, 512, 512, 3, 1, 1},
      {8, 64, 128, 3, 2, 1},  {8, 64, 128, 1, 2, 0},  {8, 64, 64, 3, 1, 1},    {8, 192, 192, 3, 1, 1},
      {8, 192, 192, 1, 1, 0}, {6, 96, 128, 3, 1, 1},  {16, 128, 128, 3, 1, 1}, {32, 3, 64, 5, 1, 0},
      {4, 32, 32, 3, 1, 1},   {2, 32, 32, 3, 1, 1},   {4, 8, 16, 3, 1, 1}};
  for (const Layer& layer : layers) {
    for (const int64_t samples : {8, 32, 125}) compare(layer, samples, dtype);
  }
}
