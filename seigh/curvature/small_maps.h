// Convolutions on small maps as matrix products.
//
// On maps of a few pixels the kernels of oneDNN are far below the rate of matrix products, and many taps of
// the kernel fall on padding: of a 3 x 3 kernel with padding 1, 1 of 9 on a 1 x 1 map, 16 of 36 on 2 x 2, 100
// of 144 on 4 x 4. Here x is laid out pixel by pixel, X[q] = [N, C], and the weight tap by tap, W_t = [O, C].
// With q(p, t) the pixel of the input that tap t of output pixel p meets, over all pairs that meet one:
//
//     output            Y[p]  += X[q] W_t^T
//     input gradient    GX[q] += GY[p] W_t
//     weight gradient   GW_t  += GY[p]^T X[q]
//
// Neighbouring output pixels of a row meet neighbouring input pixels (columns are ordered by their remainder
// modulo the stride), so a run of them is one matrix product with as many rows as the run has pixels, times
// N. Taps that meet padding alone are never touched. Each copy into or out of a layout passes over a tensor
// once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace seigh {

/// One geometry of convolution, two-dimensional, without groups: float32 or float64 on the CPU.
class SmallMapConvolution {
 public:
  /// Of x [N, C, H, W] with w [O, C, kh, kw]; stride, padding and dilation are for height and width.
  /// The output must have at least one pixel.
  SmallMapConvolution(at::IntArrayRef x, at::IntArrayRef w, at::IntArrayRef stride, at::IntArrayRef padding,
                      at::IntArrayRef dilation);

  /// The convolution [N, O, OH, OW]; `bias` [O] may be undefined.
  at::Tensor output(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias) const;
  /// Gradient with respect to x of the sum of the output times `grad_output`.
  at::Tensor input_gradient(const at::Tensor& grad_output, const at::Tensor& w) const;
  /// The same with respect to w.
  at::Tensor weight_gradient(const at::Tensor& grad_output, const at::Tensor& x) const;

 private:
  // One matrix product: `count` output pixels from slot `out` on meet as many of the input from slot `in` on.
  struct Run {
    int64_t tap, out, in, count;
  };

  std::vector<int64_t> x_sizes_, w_sizes_, y_sizes_;
  std::vector<int64_t> x_slots_, w_slots_,
      y_slots_;  // places of pixels and taps in their layout; -1: never met
  int64_t x_count_ = 0, w_count_ = 0, y_count_ = 0;  // places in use
  std::vector<Run> runs_;
};

}  // namespace seigh
