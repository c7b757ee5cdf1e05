// Layers of transformers whose second derivatives are fused.
//
// A Hessian-vector product goes backward through the graph of a gradient. libtorch writes the derivatives of
// that graph's nodes as a dozen passes over memory each, and computes for every vector anew what depends on
// the activations alone. Here, with g the gradient of a layer's output, (a, A) what meets the gradients of
// its input x and its weight w, sums over one row of n:
//
//   y = f(x), elementwise (GELU, SiLU): f'(x) and g f''(x) are kept in the graph, so that a vector is a
//   product
//     of two tensors each:
//         part of g:  a f'(x)            part of x:  a g f''(x)
//
//   layer norm, with z = (x - mean) r, r = 1 / sqrt(variance + eps), h = g w and the symmetric
//   P u = r (u - (1/n) sum u - (1/n) z sum z u), by which also dz = P dx and dr = -(r^2 / n) z dx:
//         part of g:  w P a + z A        part of w:  g P a, summed over rows
//         part of x:  P (g A - (r/n) (a sum h z + h sum a z)) - (r^2/n) z (sum a h - (1/n) sum a sum h
//                                                                          - (1/n) sum a z sum h z)
//
//   softmax y over the last dimension:
//         part of g:  y (a - sum a y)    part of y:  a (g - sum g y) - g sum a y
//
//   linear, y = x w^T + b:
//         part of g:  a w^T + x A^T      part of x:  g A      part of w:  g^T a
//
//   a product of matrices in a batch, y = x w: likewise.
//
// Rows of norms and softmaxes are read once and stay in the cache. Measured of a small GPT (bench/README.md):
// a quarter of the time for GELU, a third for norms and softmaxes; the products of matrices add to what is
// there. Two tensors of the size of x are kept for each elementwise function. All are differentiable again:
// the third derivative is made by libtorch's own operators, as it is outside of the scope.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <tuple>

namespace seigh {

/// Whether the functions below serve these arguments: some need a derivative, and all (undefined ones aside)
/// are ordinary tensors on the CPU, in the same one of float32 and float64.
bool have_second_derivatives(std::initializer_list<at::Tensor> arguments);

// The arguments and results are those of libtorch's operators of these names, above automatic
// differentiation.

at::Tensor twice_differentiable_gelu(const at::Tensor& x, std::string_view approximate);
at::Tensor twice_differentiable_silu(const at::Tensor& x);
/// aten::linear; x [.., in], w [out, in].
at::Tensor twice_differentiable_linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& bias);
/// aten::bmm.
at::Tensor twice_differentiable_products(const at::Tensor& x, const at::Tensor& w);
/// aten::_softmax_backward_data, over the last dimension.
at::Tensor differentiable_softmax_backward(const at::Tensor& g, const at::Tensor& y);
/// aten::native_layer_norm_backward.
std::tuple<at::Tensor, at::Tensor, at::Tensor> differentiable_layer_norm_backward(
    const at::Tensor& g, const at::Tensor& x, at::IntArrayRef shape, const at::Tensor& mean,
    const at::Tensor& r, const at::Tensor& w, const at::Tensor& bias, std::array<bool, 3> mask);

}  // namespace seigh
