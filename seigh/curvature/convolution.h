// Faster convolutions and second derivatives of convolutions.
//
// A convolution is linear in its input x and in its weight w, so all parts of its double backward pass are
// convolutions of the same geometry: with g the gradient of the output and (X, W) the directions,
//
//     output part   conv(X, w) + conv(x, W)
//     input part    conv's input gradient of g at weight W
//     weight part   conv's weight gradient of g at input X
//
// libtorch computes the last two as transposed or regrouped convolutions of unusual shape, for
// which no fast kernel exists; written as above they run at the speed of an ordinary backward pass.
//
// On small maps, where the ordinary kernels are slow too, convolutions and their gradients are computed as
// matrix products (small_maps.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <tuple>

namespace seigh {

// The arguments and results are those of libtorch's operators of these names. All hold for every dtype,
// stride, padding, dilation, group count and for transposed convolutions.

/// aten::_convolution_double_backward, on any device.
std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_double_backward(
    const std::optional<at::Tensor>& grad_grad_x, const std::optional<at::Tensor>& grad_grad_w,
    const std::optional<at::Tensor>& grad_grad_b, const at::Tensor& grad_output, const at::Tensor& weight,
    const at::Tensor& x, at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
    bool transposed, at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> output_mask);
/// aten::convolution on the CPU, below automatic differentiation.
at::Tensor fast_convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& bias,
                            at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                            bool transposed, at::IntArrayRef output_padding, int64_t groups);
/// aten::convolution_backward on the CPU, below automatic differentiation.
std::tuple<at::Tensor, at::Tensor, at::Tensor> fast_convolution_backward(
    const at::Tensor& grad_output, const at::Tensor& x, const at::Tensor& w,
    at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding,
    at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> output_mask);
/// libtorch's own for the CPU, but for what oneDNN leaves undefined in bfloat16.
std::tuple<at::Tensor, at::Tensor, at::Tensor> sound_convolution_backward(
    const at::Tensor& grad_output, const at::Tensor& x, const at::Tensor& w,
    at::OptionalIntArrayRef bias_sizes, at::IntArrayRef stride, at::IntArrayRef padding,
    at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> output_mask);

}  // namespace seigh
