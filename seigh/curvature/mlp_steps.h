// What the stacked products of fully connected networks (mlp_curvature.h) take beside products of matrices:
// passes over activations and vectors, by loops on the host and by libtorch's kernels on a device.
//
// Stacks have the shape [width, c, n]: of c vectors at n samples, contiguous. All tensors of a call lie on
// one device and are of one dtype, float32 or float64.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace seigh {

/// A layer and its part of a vector.
struct MlpLayer {
  int64_t in, out;
  int64_t weight = -1, bias = -1;  ///< where they begin there, the weight [out, in]; -1: they are not in it
};

/// R h = phi' R a, and in the place of R a the term phi'' g R a of R delta, if `bend` = phi'' g is defined.
/// `slope` = phi' and `bend` [width, n].
void forward_step(const at::Tensor& slope, const at::Tensor& bend, const at::Tensor& ra,
                  const at::Tensor& rh);

/// R delta = phi' R g (+ the bend term, if defined), in the place of R g.
void backward_step(const at::Tensor& slope, const at::Tensor& bend_term, const at::Tensor& rg);

/// l'' of the softmax cross-entropy, (diag(p) - p p^T) scale, applied in place to r [classes, c, n]; p
/// [classes, n]. Each row of r first loses its entry at the sample's likeliest class (int64 [n]), which
/// changes nothing, and where that class's p is nearly 1 saves the digits of the product.
void softmax_hessian(const at::Tensor& p, const at::Tensor& likeliest, double scale, const at::Tensor& r);

/// Of a block of vectors [D, c] the layer's weights and biases: `packed` [out, c, in + 1], the biases last;
/// `transposed`, where it is defined, the weights as [in, c, out].
void pack(const at::Tensor& vectors, const MlpLayer& layer, const at::Tensor& packed,
          const at::Tensor& transposed);
/// The other way: into `products` [D, c], the two added up.
void unpack(const at::Tensor& packed, const at::Tensor& transposed, const MlpLayer& layer,
            const at::Tensor& products);

}  // namespace seigh
