// Convolutions on maps of a few pixels as one product with a dense matrix, for devices.
//
// Of a 3 x 3 kernel with padding 1, 8 of 9 taps fall on padding on a 1 x 1 map, 20 of 36 on 2 x 2, and cuDNN
// multiplies them all, in float32 at half the rate of matrix products. Here the weights are laid out as a
// matrix from all input pixels to all output pixels, in operations that libtorch differentiates, forward and
// backward, and batches by itself.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace seigh {

/// Whether the dense matrix has at least a third fewer entries than a kernel has multiplications: x
/// [N, C, H, W] and w [O, C, kh, kw], two-dimensional, without groups, of one floating dtype.
bool worth_a_dense_matrix(const at::Tensor& x, const at::Tensor& w, at::IntArrayRef stride,
                          at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, int64_t groups);

/// The convolution [N, O, OH, OW] where that holds; `bias` [O] may be undefined.
at::Tensor dense_convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                             at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation);

}  // namespace seigh
