#include "seigh/curvature/dense_maps.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>

#include <array>
#include <cstdint>
#include <vector>

namespace seigh {
namespace {

// Pixels of the output along dimension d (0: height); 0 where there are none.
int64_t extent(const at::Tensor& x, const at::Tensor& w, size_t d, at::IntArrayRef stride,
               at::IntArrayRef padding, at::IntArrayRef dilation) {
  const auto dim = static_cast<int64_t>(d) + 2;
  const int64_t span = x.size(dim) + 2 * padding[d] - dilation[d] * (w.size(dim) - 1) - 1;
  return span < 0 ? 0 : span / stride[d] + 1;
}

}  // namespace

bool worth_a_dense_matrix(const at::Tensor& x, const at::Tensor& w, at::IntArrayRef stride,
                          at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                          int64_t groups) {
  if (x.dim() != 4 || w.dim() != 4 || transposed || groups != 1 || stride.size() != 2 ||
      padding.size() != 2 || dilation.size() != 2 || !x.is_floating_point() ||
      x.scalar_type() != w.scalar_type() || x.numel() == 0 || w.numel() == 0)
    return false;
  const int64_t out = extent(x, w, 0, stride, padding, dilation) * extent(x, w, 1, stride, padding, dilation),
                in = x.size(2) * x.size(3), taps = w.size(2) * w.size(3);
  return out > 0 && out * in <= 16 && 3 * in <= 2 * taps;
}

at::Tensor dense_convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                             at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation) {
  const int64_t h = x.size(2), width = x.size(3), o = w.size(0), c = w.size(1);
  const int64_t oh = extent(x, w, 0, stride, padding, dilation),
                ow = extent(x, w, 1, stride, padding, dilation);
  const std::vector<at::Tensor> taps = w.flatten(2).unbind(2);
  const at::Tensor none = at::zeros_like(taps[0]);
  // The tap that output pixel (oy, ox) meets input pixel (iy, ix) with.
  const auto tap = [&](int64_t iy, int64_t ix, int64_t oy, int64_t ox) {
    const int64_t y = iy + padding[0] - oy * stride[0], z = ix + padding[1] - ox * stride[1];
    if (y < 0 || z < 0 || y % dilation[0] != 0 || z % dilation[1] != 0) return none;
    const int64_t ky = y / dilation[0], kx = z / dilation[1];
    return ky < w.size(2) && kx < w.size(3) ? taps[static_cast<size_t>(ky * w.size(3) + kx)] : none;
  };
  std::vector<at::Tensor> pairs;
  for (int64_t in = 0; in < h * width; ++in)
    for (int64_t out = 0; out < oh * ow; ++out)
      pairs.push_back(tap(in / width, in % width, out / ow, out % ow));
  // [O, C, in, out] to [C in, O out]
  const at::Tensor matrix = at::stack(pairs, -1)
                                .reshape({o, c, h * width, oh * ow})
                                .permute({1, 2, 0, 3})
                                .reshape({c * h * width, o * oh * ow});
  const at::Tensor y = at::matmul(x.flatten(1), matrix).reshape({x.size(0), o, oh, ow});
  return bias && bias->defined() ? y + bias->reshape({1, o, 1, 1}) : y;
}

}  // namespace seigh
